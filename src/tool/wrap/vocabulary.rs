use std::{
    collections::BTreeSet,
    ops::Bound::{Included, Unbounded},
};

use crate::tool::markup;

/// The tool and parameter names that a client's parser knows.
///
/// An XML client finds calls by exact names and by nothing else, so the wrapper must know the
/// same ones. They are taken from the client's system prompt, which has one
/// section a tool: a level-two heading with the name and a usage example with the tag.
///
/// The parsers of Roo Code and Cline accept more than their prompts show: tools that the current
/// mode does not offer, and any parameter inside any tool. So where a prompt is recognised as
/// one of theirs, their built-in lists are added, and where it shows no tools at all, both lists
/// stand in for it. A name too many makes a mention of it in prose harmless but escaped; a name
/// too few would hide a call.
///
/// ```
/// use tower_qwen::tool::wrap::Vocabulary;
///
/// let vocabulary = Vocabulary::from_prompt(
///     "# Tools\n\n## look_up\nParameters:\n- word: (required) The word\nUsage:\n\
///      <look_up>\n<word>here</word>\n</look_up>\n",
/// );
/// assert!(vocabulary.has_tool("look_up") && vocabulary.has_parameter("word"));
/// assert!(!vocabulary.has_tool("read_file"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    tools: BTreeSet<Box<str>>,
    parameters: BTreeSet<Box<str>>,
    longest: usize,
}

/// What every completion needs.
const COMPLETION: (&str, &str) = ("attempt_completion", "result");

/// Longer names, in bytes, are none.
const NAME: usize = 128;

/// How much of a usage example is read, in bytes, and how many tags of it.
const USAGE: usize = 4096;
const USAGE_TAGS: usize = 128;

/// Tags of other formats, which must keep their meaning.
const RESERVED: [&str; 5] = ["tool_call", "function", "parameter", "think", "tool_response"];

impl Vocabulary {
    /// Exactly these names, and those of a completion, `attempt_completion` and `result`.
    ///
    /// Names that could not be tags are left out: empty ones, those longer than 128 bytes, those
    /// with anything but ASCII letters, digits, `_`, `-`, `.` and `:`, and the tags of the models'
    /// own formats (`tool_call`, `function`, `parameter`, `think`, `tool_response`).
    pub fn new<T, P>(
        tools: impl IntoIterator<Item = T>,
        parameters: impl IntoIterator<Item = P>,
    ) -> Self
    where
        T: AsRef<str>,
        P: AsRef<str>,
    {
        let tools: Vec<T> = tools.into_iter().collect();
        let parameters: Vec<P> = parameters.into_iter().collect();
        let mut names = Names::default();
        names.tools.extend(tools.iter().map(AsRef::as_ref).filter(|name| is_name(name)));
        names.parameters.extend(parameters.iter().map(AsRef::as_ref).filter(|name| is_name(name)));
        names.into()
    }

    /// The names of Roo Code.
    #[must_use]
    pub fn roo_code() -> Self {
        Self::built_in(true, false)
    }

    /// The names of Cline.
    #[must_use]
    pub fn cline() -> Self {
        Self::built_in(false, true)
    }

    fn built_in(roo: bool, cline: bool) -> Self {
        let mut names = Names::default();
        names.built_in(roo, cline);
        names.into()
    }

    /// The names of the client that sent this system prompt; those of Roo Code and Cline
    /// together if it shows no tools.
    #[must_use]
    pub fn from_prompt(prompt: &str) -> Self {
        let mut names = Names::default();
        let sections = Sections { rest: prompt };
        for section in sections {
            names.section(&section);
        }
        let (roo, cline) = names.clients(prompt);
        names.built_in(roo, cline);
        names.into()
    }

    /// Whether the client has this tool.
    #[must_use]
    pub fn has_tool(&self, name: &str) -> bool {
        self.tools.contains(name)
    }

    /// Whether the client has this parameter, of whatever tool.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.parameters.contains(name)
    }

    /// The tools, in alphabetical order.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.iter().map(AsRef::as_ref)
    }

    /// The parameters, in alphabetical order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(AsRef::as_ref)
    }

    /// The length of the longest name, in bytes.
    #[doc(hidden)]
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Whether a parameter's name begins with `start`.
    pub(super) fn begins_parameter(&self, start: &str) -> bool {
        from(&self.parameters, start).next().is_some()
    }
}

impl markup::Names for Vocabulary {
    fn tool(&self, name: &str) -> Option<&str> {
        self.tools.get(name).map(AsRef::as_ref)
    }

    fn begins_tool(&self, start: &str) -> bool {
        from(&self.tools, start).next().is_some()
    }

    fn declares(&self, _: &str, key: &str) -> bool {
        self.has_parameter(key)
    }

    fn may_declare(&self, _: &str, start: &str, test: impl Fn(&str) -> bool) -> bool {
        from(&self.parameters, start).any(test)
    }
}

impl Default for Vocabulary {
    /// The names of Roo Code and Cline together.
    fn default() -> Self {
        Self::from_prompt("")
    }
}

/// Those of `names` that begin with `start`.
fn from<'a>(names: &'a BTreeSet<Box<str>>, start: &str) -> impl Iterator<Item = &'a str> {
    let names = names.range::<str, _>((Included(start), Unbounded)).map(AsRef::as_ref);
    names.take_while(move |name: &&str| name.starts_with(start))
}

#[derive(Default)]
struct Names<'a> {
    tools: BTreeSet<&'a str>,
    parameters: BTreeSet<&'a str>,
}

impl From<Names<'_>> for Vocabulary {
    fn from(mut names: Names<'_>) -> Self {
        names.tools.insert(COMPLETION.0);
        names.parameters.insert(COMPLETION.1);
        let longest =
            names.tools.iter().chain(&names.parameters).map(|name| name.len()).max().unwrap_or(0);
        let boxed = |names: BTreeSet<&str>| names.into_iter().map(Box::from).collect();
        Self { tools: boxed(names.tools), parameters: boxed(names.parameters), longest }
    }
}

impl<'a> Names<'a> {
    /// Takes the names of Roo Code, of Cline, or of both.
    fn built_in(&mut self, roo: bool, cline: bool) {
        let lists: [(bool, &[&str], &[&str]); 5] = [
            (roo || cline, &TOOLS, &PARAMETERS),
            (roo, &ROO_ONLY, &ROO_PARAMETERS),
            (roo, &ROO_TOOLS, &[]),
            (cline, &CLINE_ONLY, &CLINE_PARAMETERS),
            (cline, &CLINE_TOOLS, &[]),
        ];
        for (_, tools, parameters) in lists.into_iter().filter(|(takes, ..)| *takes) {
            self.tools.extend(tools);
            self.parameters.extend(parameters);
        }
    }

    /// Takes the names of one tool's section, if its body shows the tool's tag.
    fn section(&mut self, section: &Section<'a>) {
        let Section { name, body } = *section;
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        let Some(first) = body.find(&open) else { return };
        self.tools.insert(name);
        // `- key: what it is`; deeper lists describe what is inside a parameter.
        let items = body[..first].lines().filter_map(|line| line.strip_prefix("- "));
        let keys = items.filter_map(|item| Some(item.split_once(':')?.0));
        let keys = keys.map(|key| key.trim_matches(['`', '*', ' ']));
        self.parameters.extend(keys.filter(|key| is_name(key)));
        let mut rest = &body[first..];
        while let Some(at) = rest.find(&open) {
            let usage = &rest[at + open.len()..];
            let end = usage.find(&close).unwrap_or(usage.len());
            let shown = (0..=end.min(USAGE)).rev().find(|&at| usage.is_char_boundary(at));
            self.usage(&usage[..shown.unwrap_or(0)]);
            rest = &usage[end..];
        }
    }

    /// Takes the outermost tags of a usage example.
    fn usage(&mut self, usage: &'a str) {
        let mut rest = usage;
        // A tag costs a search for its closer, so there is a limit to both.
        for _ in 0..USAGE_TAGS {
            let Some(at) = rest.find('<') else { return };
            rest = &rest[at + 1..];
            let end = rest.bytes().take(NAME + 1).position(|b| b == b'>');
            let Some(name) = end.map(|end| &rest[..end]).filter(|name| is_name(name)) else {
                continue;
            };
            self.parameters.insert(name);
            let inner = &rest[name.len() + 1..];
            rest = inner.find(&format!("</{name}>")).map_or(inner, |end| &inner[end..]);
        }
    }

    /// Whose built-in names belong to a prompt with these tools: Roo Code's, Cline's.
    fn clients(&self, prompt: &str) -> (bool, bool) {
        let has = |names: &[&str]| names.iter().any(|name| self.tools.contains(name));
        let roo = has(&ROO_ONLY) || prompt.contains("You are Roo");
        let cline = has(&CLINE_ONLY) || prompt.contains("You are Cline");
        // Without any section there is only a guess, and both lists are the safe one.
        let neither = !roo && !cline && self.tools.is_empty();
        (roo || neither, cline || neither)
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
        && !RESERVED.contains(&name)
}

struct Section<'a> {
    name: &'a str,
    body: &'a str,
}

/// The parts of a prompt under level-two headings that are one name.
struct Sections<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Sections<'a> {
    type Item = Section<'a>;

    fn next(&mut self) -> Option<Section<'a>> {
        loop {
            let at = heading(self.rest, &["## "])?;
            let (line, body) =
                self.rest[at + 3..].split_once('\n').unwrap_or((&self.rest[at + 3..], ""));
            let end = heading(body, &["## ", "# "]).unwrap_or(body.len());
            self.rest = &body[end..];
            let name = line.trim();
            if is_name(name) {
                return Some(Section { name, body: &body[..end] });
            }
        }
    }
}

/// Where the first line begins that starts with one of `marks`.
fn heading(text: &str, marks: &[&str]) -> Option<usize> {
    let is_heading = |at: usize| marks.iter().any(|mark| text[at..].starts_with(mark));
    std::iter::once(0)
        .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
        .find(|&at| is_heading(at))
}

/// Tools that only Roo Code has, and that its prompts show.
const ROO_ONLY: [&str; 7] = [
    "apply_diff",
    "switch_mode",
    "fetch_instructions",
    "update_todo_list",
    "codebase_search",
    "insert_content",
    "run_slash_command",
];

/// Tools that only Cline has, and that its prompts show.
const CLINE_ONLY: [&str; 5] = [
    "replace_in_file",
    "plan_mode_respond",
    "act_mode_respond",
    "load_mcp_documentation",
    "focus_chain",
];

/// Tools of both clients, those of older versions included.
const TOOLS: [&str; 13] = [
    "execute_command",
    "read_file",
    "write_to_file",
    "apply_patch",
    "search_files",
    "list_files",
    "browser_action",
    "use_mcp_tool",
    "access_mcp_resource",
    "ask_followup_question",
    "attempt_completion",
    "new_task",
    "list_code_definition_names",
];

/// Tools of Roo Code that tell nobody whose a prompt is.
const ROO_TOOLS: [&str; 5] =
    ["search_and_replace", "search_replace", "edit_file", "generate_image", "custom_tool"];

/// Tools of Cline that tell nobody whose a prompt is.
const CLINE_TOOLS: [&str; 9] = [
    "web_fetch",
    "web_search",
    "condense",
    "summarize_task",
    "report_bug",
    "new_rule",
    "generate_explanation",
    "use_skill",
    "use_subagents",
];

/// Parameters of both clients.
const PARAMETERS: [&str; 21] = [
    "command",
    "path",
    "content",
    "regex",
    "file_pattern",
    "recursive",
    "action",
    "url",
    "coordinate",
    "text",
    "server_name",
    "tool_name",
    "arguments",
    "uri",
    "question",
    "result",
    "diff",
    "query",
    "start_line",
    "end_line",
    "prompt",
];

/// Parameters of Roo Code alone.
const ROO_PARAMETERS: [&str; 19] = [
    "mode_slug",
    "reason",
    "line",
    "mode",
    "message",
    "cwd",
    "follow_up",
    "task",
    "size",
    "args",
    "todos",
    "image",
    "files",
    "operations",
    "patch",
    "file_path",
    "old_string",
    "new_string",
    "expected_replacements",
];

/// Parameters of Cline alone.
const CLINE_PARAMETERS: [&str; 24] = [
    "requires_approval",
    "absolutePath",
    "allowed_domains",
    "blocked_domains",
    "options",
    "response",
    "context",
    "title",
    "what_happened",
    "steps_to_reproduce",
    "api_request_output",
    "additional_context",
    "needs_more_exploration",
    "task_progress",
    "timeout",
    "input",
    "from_ref",
    "to_ref",
    "skill_name",
    "prompt_1",
    "prompt_2",
    "prompt_3",
    "prompt_4",
    "prompt_5",
];
