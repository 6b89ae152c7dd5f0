//! Questions side by side.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// All at once, in one task; their results in order.
pub(super) async fn together<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (future, result) in futures.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(output) => *result = Some(output),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn none_waits_for_another_to_begin() {
        let (meet, other) = (tokio::sync::Barrier::new(3), tokio::sync::Barrier::new(3));
        let one = async |number: u32| {
            meet.wait().await;
            other.wait().await;
            number
        };
        assert_eq!(together(vec![one(1), one(2), one(3)]).await, [1, 2, 3]);
        assert!(together(Vec::<std::future::Ready<u32>>::new()).await.is_empty());
    }
}
