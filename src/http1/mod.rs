//! HTTP/1 as bytes: what listeners and upstreams both need of it.

mod chunked;

pub(crate) use chunked::Chunks;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use bytes::{Bytes, BytesMut};

    /// [`super::Chunks`], for everybody.
    #[derive(Debug, Default)]
    pub struct Chunks(super::Chunks);

    impl Chunks {
        pub fn is_done(&self) -> bool {
            self.0.is_done()
        }
        pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
            self.0.scan(bytes)
        }
        pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
            self.0.decode(buffer)
        }
    }
}
