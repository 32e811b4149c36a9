//! The proxy's program with an upstream that comes and goes, and one that stands in for it.

use std::{fs, process::Command};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower_qwen_emulator::Emulator;

use super::{
    binary::{self, Running},
    proxied::{TOKEN, start},
};

/// An upstream that can be ended and started again at the same address.
pub(crate) struct Upstream {
    pub(crate) emulator: Emulator,
    origin: String,
    /// What it runs on; none while it is down.
    runtime: Option<Runtime>,
}

impl Upstream {
    fn new(emulator: Emulator) -> Self {
        let mut upstream = Self { emulator, origin: "http://127.0.0.1:0".into(), runtime: None };
        upstream.start();
        upstream
    }

    pub(crate) fn start(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let address = self.origin.strip_prefix("http://").expect("an origin").to_owned();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address));
        let listener = listener.expect("the address is free");
        self.origin = format!("http://{}", listener.local_addr().expect("bound"));
        runtime.spawn(self.emulator.clone().serve(listener));
        self.runtime = Some(runtime);
    }

    /// Ends it, with every connection.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().expect("it runs").shutdown_background();
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// chat.qwen.ai, for which DashScope stands in, behind the program.
pub(crate) struct Served {
    pub(crate) web: Upstream,
    pub(crate) dashscope: Upstream,
    pub(crate) proxy: Running,
    _folder: TempDir,
}

impl Served {
    /// The lines of `also` are about chat.qwen.ai; clients bring `key`.
    pub(crate) fn new(web: Emulator, dashscope: Emulator, also: &str, key: &str) -> Self {
        let (web, dashscope) = (Upstream::new(web), Upstream::new(dashscope));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("proxy.toml");
        let text = format!(
            "[[upstream]]\nkind = \"web\"\nbase-url = \"{}\"\ntoken = \"{TOKEN}\"\nretries = 0\n\
             fallback = [\"dashscope:qwen-plus\"]\n{also}\n\
             [[upstream]]\nname = \"dashscope\"\nkind = \"compatible\"\nserver = \"dashscope\"\n\
             base-url = \"{}/v1\"\nupstream-key = \"sk-up\"\nmodels = [\"qwen-plus\"]\n",
            web.origin, dashscope.origin
        );
        fs::write(&file, text).expect("written");
        let mut proxy: Command = binary::command();
        proxy.arg("--config").arg(&file);
        proxy.env("QWEN_PROXY_API_KEY", key).env("NO_PROXY", "127.0.0.1");
        proxy.env("RUST_LOG", "warn");
        let runtime = Runtime::new().expect("a runtime");
        let proxy = runtime.block_on(start(proxy));
        Self { web, dashscope, proxy, _folder: folder }
    }
}
