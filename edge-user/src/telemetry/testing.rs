//! For tests: what one thread logs.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;

/// What this thread logs while it lives.
pub(crate) struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Captured {
    pub(crate) fn start() -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let to = bytes.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || To(to.clone())).finish();
        Self { bytes, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().expect("nobody panicked").clone()).expect("text")
    }
}

struct To(Arc<Mutex<Vec<u8>>>);

impl Write for To {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
