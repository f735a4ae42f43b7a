//! In unit tests: this thread's agent dies at a point, and every point that it meets is noted.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;

thread_local! {
    static MET: RefCell<Met> = const { RefCell::new(Met { names: Vec::new(), watch: None }) };
}

/// Is told of a point.
type Watch = Box<dyn FnMut(&str)>;

/// The points that this thread has met, and who is told of each.
#[derive(Default)]
struct Met {
    names: Vec<String>,
    watch: Option<Watch>,
}

/// The panic's payload of an agent that died on request.
struct Died;

/// Notes that this thread has reached a point, and dies there if a test asked for it.
pub(super) fn reached(name: &str) {
    // Taken while it is called: what it does may reach points of its own.
    let watch = MET.with_borrow_mut(|met| {
        met.names.push(name.to_owned());
        met.watch.take()
    });
    if let Some(mut watch) = watch {
        watch(name);
        MET.with_borrow_mut(|met| met.watch = Some(watch));
    }
    fail::fail_point!(name);
}

/// What `run` gives, and the names of the points that this thread meets meanwhile, each told to `watch` at once.
pub(crate) fn met<T>(
    run: impl Future<Output = T>,
    watch: impl FnMut(&str) + 'static,
) -> impl Future<Output = (T, Vec<String>)> {
    let run = Box::pin(run);
    async move {
        MET.set(Met { names: Vec::new(), watch: Some(Box::new(watch)) });
        let result = run.await;
        (result, MET.take().names)
    }
}

/// What `run` gives, or `None` if the agent of this thread died at the point `name`, which it had met `earlier` times before.
pub(crate) fn die_at<T>(name: &str, earlier: usize, run: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let run = Box::pin(run);
    async move {
        // Held: the table of points is the whole process's, and other tests use it too.
        let scenario = fail::FailScenario::setup();
        let (thread, left) = (std::thread::current().id(), AtomicUsize::new(earlier));
        let callback = move || {
            if std::thread::current().id() == thread && left.fetch_sub(1, Ordering::Relaxed) == 0 {
                // Not a panic that anybody reads about, with a backtrace.
                std::panic::resume_unwind(Box::new(Died));
            }
        };
        fail::cfg_callback(name, callback).unwrap();
        let lived = std::panic::AssertUnwindSafe(run).catch_unwind().await;
        scenario.teardown();
        match lived {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Died>() => None,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
}
