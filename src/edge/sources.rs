//! The sources of an answer that wait for their place in it.

use crate::chat::Citation;

/// How many are kept. A search brings some dozen.
const MOST: usize = 1024;

/// Sources, each address once.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Citation>);

impl Sources {
    /// Keeps a source, unless it is there already or there is no room.
    pub(crate) fn push(&mut self, source: Citation) {
        if self.0.len() < MOST && self.0.iter().all(|own| own.url != source.url) {
            // Slices would keep the upstream's events as long as they wait.
            self.0.push(Citation {
                url: source.url.as_str().into(),
                title: source.title.map(|title| title.as_str().into()),
                snippet: None,
                range: source.range,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Citation> {
        std::mem::take(&mut self.0)
    }
}

impl FromIterator<Citation> for Sources {
    fn from_iter<I: IntoIterator<Item = Citation>>(sources: I) -> Self {
        let mut all = Self::default();
        sources.into_iter().for_each(|source| all.push(source));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_there_once_and_there_is_an_end() {
        let sources = (0..5_000).map(|n| Citation::new(format!("https://example.org/{}", n / 2)));
        let mut all: Sources = sources.collect();
        assert_eq!(all.take().len(), MOST);
        assert!(all.is_empty());
    }
}
