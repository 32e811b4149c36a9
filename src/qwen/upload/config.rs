//! What the layer is set to.

use std::time::Duration;

use crate::chat::FileKind;

const MIB: usize = 1024 * 1024;

/// How many files of a kind one message may have, and how large each may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    image: Limit,
    audio: Limit,
    video: Limit,
    document: Limit,
    pub(super) mixed: bool,
    pub(super) hosts: Vec<String>,
    pub(super) parallel: usize,
    pub(super) deadline: Duration,
    pub(super) poll: Duration,
    pub(super) reuse: Duration,
    pub(super) capacity: usize,
}

impl Config {
    pub(super) const fn limit(&self, kind: FileKind) -> Limit {
        match kind {
            FileKind::Image => self.image,
            FileKind::Audio => self.audio,
            FileKind::Video => self.video,
            FileKind::Document => self.document,
        }
    }

    pub(super) const fn set_limit(&mut self, kind: FileKind, limit: Limit) {
        *match kind {
            FileKind::Image => &mut self.image,
            FileKind::Audio => &mut self.audio,
            FileKind::Video => &mut self.video,
            FileKind::Document => &mut self.document,
        } = limit;
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // The page has five; upstream was seen to take seven.
            image: Limit { count: 7, bytes: 20 * MIB },
            audio: Limit { count: 1, bytes: 100 * MIB },
            video: Limit { count: 1, bytes: 500 * MIB },
            document: Limit { count: 5, bytes: 20 * MIB },
            mixed: false,
            hosts: vec!["aliyuncs.com".to_owned()],
            parallel: 4,
            deadline: Duration::from_secs(120),
            poll: Duration::from_secs(2),
            reuse: Duration::from_secs(120),
            capacity: 1024,
        }
    }
}

/// Whether `host` is one of `hosts`, or below one.
pub(super) fn is_among(host: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|known| {
        let Some(at) = host.len().checked_sub(known.len()) else { return false };
        host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(known)
            && (at == 0 || host.as_bytes()[at - 1] == b'.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_among_those_that_it_is_below() {
        let hosts = ["aliyuncs.com".to_owned()];
        for host in ["aliyuncs.com", "b.oss-accelerate.ALIYUNCS.com"] {
            assert!(is_among(host, &hosts), "{host}");
        }
        for host in ["notaliyuncs.com", "aliyuncs.com.example", "com", "", "éiyuncs.com"] {
            assert!(!is_among(host, &hosts), "{host}");
        }
    }
}
