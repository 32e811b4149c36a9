use memchr::memchr;

use super::Vocabulary;

/// Where the client is in a call that passes: its own automaton, run over what it will read.
///
/// A parameter begins at the tag of any parameter that the client knows, and ends at its first
/// closer; nothing else means anything inside of it.
#[derive(Debug)]
pub(super) struct Passing {
    /// The tool's closer.
    tool: String,
    /// The closer of the open parameter.
    parameter: Option<String>,
    /// What may become a tag; it has been let out.
    tag: String,
}

impl Passing {
    pub(super) fn new(tool: &str) -> Self {
        Self { tool: format!("</{tool}>"), parameter: None, tag: String::new() }
    }

    /// Follows the client through `bytes` from `at` on; says where the call ends.
    pub(super) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        bytes: &[u8],
        mut at: usize,
    ) -> Option<usize> {
        while at < bytes.len() {
            if self.tag.is_empty() {
                at += memchr(b'<', &bytes[at..])?;
            }
            let byte = bytes[at];
            at += 1;
            if byte == b'<' {
                self.tag.clear();
            }
            if !byte.is_ascii() {
                self.tag.clear();
                continue;
            }
            self.tag.push(char::from(byte));
            let closer = self.parameter.as_ref().unwrap_or(&self.tool);
            if self.tag == *closer {
                self.tag.clear();
                if self.parameter.take().is_none() {
                    return Some(at);
                }
            } else if !closer.starts_with(&self.tag) && !self.opens(vocabulary) {
                self.tag.clear();
            }
        }
        None
    }

    /// Whether the tag opens a parameter, or may still become one that does.
    fn opens(&mut self, vocabulary: &Vocabulary) -> bool {
        if self.parameter.is_some() {
            return false;
        }
        match self.tag[1..].strip_suffix('>') {
            Some(name) => {
                self.parameter = vocabulary.has_parameter(name).then(|| format!("</{name}>"));
                false
            }
            None => vocabulary.begins_parameter(&self.tag[1..]),
        }
    }

    /// The closers that the model left out, the first without what is there of it.
    pub(super) fn closers(&self) -> String {
        // A lone `<` may be a value's own.
        let tag = if self.tag.len() > 1 { self.tag.as_str() } else { "" };
        let rest = |closer: &str| closer.strip_prefix(tag).unwrap_or(closer).to_owned();
        match &self.parameter {
            Some(parameter) => rest(parameter) + "\n" + &self.tool,
            None => rest(&self.tool),
        }
    }
}
