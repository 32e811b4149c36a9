//! What a whole test run logs at TRACE, kept so that one look at the end finds any secret in it.
//!
//! With `TOWER_QWEN_TEST_LOGS` set to a folder, each test program that deals with credentials
//! writes its log there, with the metrics that it touches and their labels; so does each proxy
//! that a test starts. Errors are in it, since what fails is logged with its causes. `.ci/run`
//! does this, and looks for what is shaped like a credential of these tests.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    process,
    sync::{Mutex, Once},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// A new file in the folder, if there is to be one.
pub(crate) fn file(name: &str) -> Option<File> {
    let folder = PathBuf::from(env::var_os("TOWER_QWEN_TEST_LOGS")?);
    fs::create_dir_all(&folder).expect("the folder for logs");
    Some(File::create(folder.join(name)).expect("a file in the folder for logs"))
}

/// Begins to write the log of this test program, unless it has begun.
#[allow(dead_code, reason = "who only starts proxies needs the file alone")]
pub(crate) fn on() {
    static BEGUN: Once = Once::new();
    BEGUN.call_once(|| {
        let own = env::current_exe().expect("the test's own path");
        let own = own.file_name().expect("a program's path").to_string_lossy();
        let Some(file) = file(&format!("{own}-{}.log", process::id())) else { return };
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(Mutex::new(file))
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only one");
        metrics::set_global_recorder(Labels).expect("the only one");
    });
}

/// Logs which metrics there are, instead of counting.
struct Labels;

impl Labels {
    fn log(key: &Key) {
        tracing::trace!(%key, "a metric");
    }
}

impl Recorder for Labels {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Self::log(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Self::log(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Self::log(key);
        Histogram::noop()
    }
}
