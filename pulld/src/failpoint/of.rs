//! Points of what is done beside the work, under names of their own: whoever dies in the work may not come by there again.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

thread_local! {
    static WHOSE: Cell<&'static str> = const { Cell::new("") };
}

/// What stands before the names of points right now.
pub(super) fn whose() -> &'static str {
    WHOSE.get()
}

/// What a future gives, with `whose` before the names of the points that it meets.
pub(crate) fn of<T>(whose: &'static str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |context| poll(whose, future.as_mut(), context))
}

fn poll<T>(whose: &'static str, future: Pin<&mut impl Future<Output = T>>, context: &mut Context<'_>) -> Poll<T> {
    /// Also when a test has the agent die there.
    struct Restored(&'static str);
    impl Drop for Restored {
        fn drop(&mut self) {
            WHOSE.set(self.0);
        }
    }
    let _restored = Restored(WHOSE.replace(whose));
    future.poll(context)
}
