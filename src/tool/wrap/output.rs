use std::{collections::VecDeque, ops::Range};

use crate::{
    Text,
    chat::ChatEvent,
    tool::markup::{GROWTH, Window},
};

/// Where output goes: neighbouring short parts of it leave as one, long ones as the slices that
/// they are.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) queue: VecDeque<ChatEvent>,
    part: Part,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    None,
    Slice(Text),
    Owned(String),
}

impl Output {
    /// Lets out a part of the input.
    pub(super) fn slice(&mut self, window: Window<'_>, range: Range<usize>) {
        window.each(range, |text| match &mut self.part {
            Part::None => self.part = Part::Slice(text),
            part => {
                if text.len() <= GROWTH && part.join(&text) {
                    return;
                }
                self.flush();
                self.part = Part::Slice(text);
            }
        });
    }

    /// Lets out something that is not in the input.
    pub(super) fn text(&mut self, text: &str) {
        if text.is_empty() || self.part.join(text) {
            return;
        }
        self.flush();
        self.part = Part::Owned(text.to_owned());
    }

    /// Lets out a part of the input as reasoning.
    pub(super) fn reasoning(&mut self, window: Window<'_>, range: Range<usize>) {
        self.flush();
        window.each(range, |text| self.queue.push_back(ChatEvent::Reasoning(text)));
    }

    /// What is joined is a piece of its own.
    pub(super) fn flush(&mut self) {
        match std::mem::take(&mut self.part) {
            Part::None => {}
            Part::Slice(text) => self.queue.push_back(ChatEvent::Text(text)),
            Part::Owned(text) => self.queue.push_back(ChatEvent::Text(text.into())),
        }
    }
}

impl Part {
    /// Adds `text` where that costs no long copy; whether it did.
    fn join(&mut self, text: &str) -> bool {
        match self {
            Self::Owned(own) => own.push_str(text),
            Self::Slice(first) if first.len() <= GROWTH => {
                *self = Self::Owned([first.as_str(), text].concat());
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_parts_leave_as_one_and_long_ones_as_slices() {
        let mut output = Output::default();
        let (short, long) = (Text::from("<read"), Text::from(" and more".repeat(20)));
        output.slice(Window::of(&short), 0..5);
        output.text(">");
        output.slice(Window::of(&long), 0..long.len());
        output.text("\n");
        output.slice(Window::of(&short), 1..3);
        output.flush();
        let text = |text: &str| ChatEvent::Text(text.into());
        assert_eq!(output.queue, [text("<read>"), text(&long), text("\nre")]);
        let ChatEvent::Text(slice) = &output.queue[1] else { panic!("text") };
        assert_eq!(slice.as_ptr(), long.as_ptr());
    }
}
