//! The names of tools: two here, a namespace and a name in it, and one for the layers below.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use crate::Text;

/// The one parameter of the function that a custom tool becomes.
pub(super) const INPUT: &str = "input";

/// The shell on the client's own machine.
pub(super) const LOCAL_SHELL: &str = "local_shell";

/// The search among tools that the client has not listed.
pub(super) const TOOL_SEARCH: &str = "tool_search";

/// The longest name that upstreams take, in bytes.
const NAME_LEN: usize = 64;

/// The longest name of a namespace that is taken, in bytes: each of its tools holds it.
pub(super) const NAMESPACE_LEN: usize = 256;

/// The namespace of the functions that have none.
const IMPLICIT: &str = "functions";

/// What stands between a namespace and a name.
const BETWEEN: &str = "__";

/// Of which kind a tool is, and so the items of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    /// Its input is a text of its own form, and no JSON.
    Custom,
    LocalShell,
    ToolSearch,
}

/// A tool as the client has named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) kind: Kind,
    pub(super) namespace: Option<Text>,
    pub(super) name: Text,
}

/// The tools of a request by both of their names.
///
/// It holds copies: slices would keep the body of the request as long as the answer.
#[derive(Debug, Default)]
pub(super) struct Names {
    flat: HashMap<(String, String), Text>,
    given: HashMap<Text, Given>,
}

impl Names {
    /// Takes a tool up; under which name the layers below know it.
    ///
    /// Two tools whose flat names would be one have different ones, and the same tool always has
    /// the same.
    pub(super) fn add(&mut self, kind: Kind, namespace: Option<&str>, name: &str) -> Text {
        let namespace = explicit(namespace);
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        if let Some(flat) = self.flat.get(&key) {
            if let Some(given) = self.given.get_mut(flat) {
                given.kind = kind;
            }
            return flat.clone();
        }
        let mut flat = flatten(namespace, name);
        // A hash is of the name and of how many were taken.
        let mut tries = 0;
        while self.given.contains_key(&*flat) {
            tries += 1;
            flat = hashed(namespace.unwrap_or_default(), name, tries);
        }
        let flat = Text::from(flat);
        let given = Given { kind, namespace: namespace.map(Text::from), name: name.into() };
        self.flat.insert(key, flat.clone());
        self.given.insert(flat.clone(), given);
        flat
    }

    /// Under which name the layers below know a tool that the history calls: whether or not it is
    /// still on offer.
    pub(super) fn flat(&self, namespace: Option<&str>, name: &str) -> Text {
        let namespace = explicit(namespace);
        let key = (namespace.unwrap_or_default().to_owned(), name.to_owned());
        match self.flat.get(&key) {
            Some(flat) => flat.clone(),
            None => flatten(namespace, name).into(),
        }
    }

    /// What the client calls the tool that the layers below know as `flat`.
    pub(super) fn given(&self, flat: &str) -> Given {
        self.given.get(flat).cloned().unwrap_or_else(|| Given {
            kind: Kind::Function,
            namespace: None,
            name: flat.into(),
        })
    }

    /// The flat names of all tools in these namespaces.
    pub(super) fn within(&self, namespaces: &HashSet<String>) -> impl Iterator<Item = &Text> {
        let tools = self.flat.iter();
        tools.filter(|((own, _), _)| namespaces.contains(own)).map(|(_, flat)| flat)
    }
}

fn explicit(namespace: Option<&str>) -> Option<&str> {
    namespace.filter(|namespace| !namespace.is_empty() && *namespace != IMPLICIT)
}

fn flatten(namespace: Option<&str>, name: &str) -> String {
    let Some(namespace) = namespace else { return name.to_owned() };
    let flat = plain(namespace, name);
    if flat.len() <= NAME_LEN { flat } else { hashed(namespace, name, 0) }
}

/// The two names as one, of the characters that upstreams take.
fn plain(namespace: &str, name: &str) -> String {
    [namespace, BETWEEN, name]
        .iter()
        .flat_map(|part| part.chars())
        .map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' })
        .collect()
}

/// A name that is unlike any other, whose beginning says what it is.
fn hashed(namespace: &str, name: &str, tries: u32) -> String {
    const HASH_LEN: usize = 8;
    let mut hash = Sha256::new();
    hash.update(namespace);
    hash.update([0]);
    hash.update(name);
    hash.update(tries.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut flat = if namespace.is_empty() { name.to_owned() } else { plain(namespace, name) };
    let mut end = flat.len().min(NAME_LEN - HASH_LEN - 1);
    while !flat.is_char_boundary(end) {
        end -= 1;
    }
    flat.truncate(end);
    flat.push('_');
    digest[..HASH_LEN / 2].iter().for_each(|byte| flat.push_str(&format!("{byte:02x}")));
    flat
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_namespace_stands_in_front() {
        let mut names = Names::default();
        for (namespace, name, flat) in [
            (None, "read", "read"),
            (Some("functions"), "write", "write"),
            (Some(""), "list", "list"),
            (Some("mcp__files"), "read", "mcp__files__read"),
            (Some("a.b"), "c d", "a_b__c_d"),
        ] {
            assert_eq!(names.flat(namespace, name), flat);
            assert_eq!(names.add(Kind::Function, namespace, name), flat);
        }
        let given = names.given("mcp__files__read");
        assert_eq!(given.namespace.as_deref(), Some("mcp__files"));
        assert_eq!(given.name, "read");
        let namespaces = HashSet::from(["mcp__files".to_owned(), "none".to_owned()]);
        assert_eq!(names.within(&namespaces).collect::<Vec<_>>(), ["mcp__files__read"]);
    }

    #[test]
    fn long_names_fit() {
        let mut names = Names::default();
        let namespace = "mcp__a_server_with_a_name_that_is_long";
        let flats =
            ["a_function_with_a_name_that_is_long", "a_function_with_a_name_that_is_larger"]
                .map(|name| names.add(Kind::Function, Some(namespace), name));
        assert_ne!(flats[0], flats[1]);
        assert!(flats.iter().all(|flat| flat.len() <= NAME_LEN), "{flats:?}");
    }

    proptest! {
        /// To flatten and to restore is the identity, whatever the tools are called.
        #[test]
        fn a_name_comes_back(
            tools in prop::collection::vec(
                (prop::option::of("(functions|[ab_.ü]{0,4}|x{60})"), "[ab_.ü]{1,5}|y{70}"),
                0..24,
            ),
        ) {
            let mut names = Names::default();
            let flats: Vec<_> = tools
                .iter()
                .map(|(namespace, name)| names.add(Kind::Custom, namespace.as_deref(), name))
                .collect();
            for ((namespace, name), flat) in tools.iter().zip(&flats) {
                let namespace = explicit(namespace.as_deref());
                let given = names.given(flat);
                prop_assert_eq!(given.namespace.as_deref(), namespace);
                prop_assert_eq!(given.name.as_str(), name);
                prop_assert_eq!(&names.flat(namespace, name), flat);
                prop_assert!(namespace.is_none() || flat.len() <= NAME_LEN);
            }
        }
    }
}
