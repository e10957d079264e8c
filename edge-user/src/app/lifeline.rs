//! Notices a worker that ends though nobody asked it to.

use std::sync::Arc;
use std::thread;

use tokio::sync::Notify;

/// Hears of threads that end.
#[derive(Clone, Default)]
pub(super) struct Lifeline(Arc<Notify>);

impl Lifeline {
    /// Resolves when one has ended.
    pub(super) async fn ended(&self) {
        self.0.notified().await;
    }

    /// Does the work on a named thread, whose end is heard of, panics included.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        name: String,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<thread::JoinHandle<T>> {
        let told = Told(self.clone());
        thread::Builder::new().name(name).spawn(move || {
            let _told = told;
            work()
        })
    }
}

struct Told(Lifeline);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_end_is_heard_of_and_life_is_not() {
        // D5
        for panics in [false, true] {
            let lifeline = Lifeline::default();
            let (stay, go) = mpsc::channel::<()>();
            let thread = lifeline.spawn("worker-0".into(), move || {
                let _ = go.recv();
                assert!(!panics, "as a fault would");
            });
            let thread = thread.expect("a thread");
            let waited = tokio::time::timeout(Duration::from_millis(50), lifeline.ended()).await;
            assert!(waited.is_err(), "it lives");
            drop(stay);
            let waited = tokio::time::timeout(Duration::from_secs(10), lifeline.ended()).await;
            assert!(waited.is_ok(), "it ended");
            assert_eq!(thread.join().is_err(), panics);
        }
    }
}
