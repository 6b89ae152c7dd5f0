//! The locks and atomics of the store; where its interleavings are explored (`--cfg model`), those of loom.

#[cfg(not(model))]
pub(super) use {
    parking_lot::{Mutex, RwLock},
    std::sync::atomic::{AtomicUsize, Ordering},
};

#[cfg(model)]
pub(super) use self::modelled::{AtomicUsize, Mutex, Ordering, RwLock};

/// As `parking_lot` has them: nothing is poisoned.
#[cfg(model)]
mod modelled {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no model goes on after a panic")
        }
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("no model goes on after a panic")
        }
        pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
            self.0.try_read().ok()
        }
        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect("no model goes on after a panic")
        }
    }
}
