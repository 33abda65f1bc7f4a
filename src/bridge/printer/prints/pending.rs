//! Ends of prints that are being found out (pure).

use super::history::Print;
use super::verdict::{End, Unclear};

/// Prints that ended unseen: how is known of some, and is to be found out of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    /// For [`Tracker::found`](super::Tracker::found).
    pub id: u64,
    /// The ends that are known.
    pub ends: Vec<End>,
    /// The print of which its file's history can tell.
    pub unclear: Option<Unclear>,
}

/// What is being found out, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending {
    questions: Vec<Search>,
    ids: u64,
}

/// Ends that are being found out.
#[derive(Debug)]
pub(super) struct Search {
    id: u64,
    /// The last print of them.
    pub(super) print: Print,
    /// How often its file had been printed when it began.
    pub(super) counts: Option<(u64, u64)>,
    /// Nothing proves the end but that nothing is printed: one that goes on after all is no end.
    doubtful: bool,
    /// The event came after all.
    pub(super) told: bool,
}

impl Search {
    fn may_go_on(&self) -> bool {
        self.doubtful && !self.told
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Notes that this is to be found out.
    pub(super) fn ask(&mut self, ends: Vec<End>, unclear: Option<Unclear>) -> Lost {
        self.ids += 1;
        let last = unclear.as_ref().map(|unclear| &unclear.print);
        self.questions.push(Search {
            id: self.ids,
            print: last.or(ends.last().map(|end| &end.print)).cloned().unwrap_or_default(),
            counts: unclear.as_ref().and_then(|unclear| unclear.counts),
            doubtful: ends.is_empty(),
            told: false,
        });
        Lost { id: self.ids, ends, unclear }
    }

    /// The question that is answered now; `None` where it was withdrawn: the print goes on.
    pub(super) fn answered(&mut self, id: u64) -> Option<Search> {
        let index = self.questions.iter().position(|question| question.id == id)?;
        Some(self.questions.remove(index))
    }

    /// An event tells of the end of `print`. Yields whether that was being found out.
    pub(super) fn told(&mut self, print: &Print) -> bool {
        let is_it = |question: &&mut Search| !question.told && question.print.may_be(print);
        let question = self.questions.iter_mut().rev().find(is_it);
        question.map(|question| question.told = true).is_some()
    }

    /// Whether a print may go on after all.
    pub(super) fn may_go_on(&self) -> bool {
        self.questions.iter().any(Search::may_go_on)
    }

    /// A print of the file in `job` is on: withdraws the question whether that one ended.
    pub(super) fn goes_on(&mut self, job: &Print) -> Option<Search> {
        let is_it = |question: &Search| question.may_go_on() && question.print.may_be(job);
        let index = self.questions.iter().rposition(is_it)?;
        Some(self.questions.remove(index))
    }
}
