//! What each tool uses (pure).

use super::info::within;

/// The most tools that are told apart.
pub(super) const MOST_TOOLS: usize = 32;

/// An amount for each tool, in the order of the tools.
#[derive(Default)]
pub(super) struct Amounts {
    of_tools: Vec<f64>,
    /// The total, where the slicer wrote it.
    total: Option<f64>,
}

impl Amounts {
    /// The amounts of all tools.
    pub(super) fn set(&mut self, amounts: impl Iterator<Item = f64>) {
        self.of_tools = amounts.take(MOST_TOOLS).collect();
    }

    /// The amount of one tool.
    pub(super) fn set_tool(&mut self, tool: usize, amount: f64) {
        if tool < MOST_TOOLS {
            if self.of_tools.len() <= tool {
                self.of_tools.resize(tool + 1, 0.0);
            }
            self.of_tools[tool] = amount;
        }
    }

    pub(super) fn set_total(&mut self, total: Option<f64>) {
        self.total = total.or(self.total);
    }

    /// The amounts are those of these tools alone, the first tool is 1.
    pub(super) fn place(&mut self, tools: &[usize]) {
        if tools.len() == self.of_tools.len() {
            let amounts = std::mem::take(&mut self.of_tools);
            for (tool, amount) in tools.iter().zip(amounts) {
                self.set_tool(tool.saturating_sub(1), amount);
            }
        }
    }

    /// The total of all tools, at most `most`; `None` if it is zero, which is what slicers write that do
    /// not know it.
    pub(super) fn total(&self, most: f64) -> Option<f64> {
        let sum = || (!self.of_tools.is_empty()).then(|| self.of_tools.iter().sum());
        within(self.total.or_else(sum)?, 0.00001, most)
    }

    /// Which of that many tools are used: all, if it is not known.
    pub(super) fn used(&self, tools: usize) -> Vec<bool> {
        let is_known =
            self.of_tools.len() == tools && self.of_tools.iter().any(|&amount| amount > 0.0);
        (0..tools).map(|tool| !is_known || self.of_tools[tool] > 0.0).collect()
    }
}

/// The value of the first tool that is used, in a list of one value for each.
pub(super) fn first_used(values: &[f64], lengths: &Amounts) -> Option<f64> {
    let used = lengths.used(values.len());
    values.iter().zip(used).find(|(_, is_used)| *is_used).map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_what_the_slicer_wrote_or_the_sum() {
        let mut amounts = Amounts::default();
        assert_eq!(amounts.total(1e6), None);
        amounts.set([1.5, 0.0, 2.0].into_iter());
        assert_eq!(amounts.total(1e6), Some(3.5));
        assert_eq!(amounts.total(3.0), None);
        amounts.set_total(Some(4.0));
        assert_eq!(amounts.total(1e6), Some(4.0));
        amounts.set([0.0].into_iter());
        amounts.total = None;
        assert_eq!(amounts.total(1e6), None);
    }

    #[test]
    fn tools_are_used_if_they_use_filament() {
        let mut amounts = Amounts::default();
        assert_eq!(amounts.used(2), [true, true]);
        amounts.set_tool(1, 5.0);
        assert_eq!(amounts.used(2), [false, true]);
        assert_eq!(amounts.used(3), [true, true, true]);
        assert_eq!(first_used(&[210.0, 240.0], &amounts), Some(240.0));
        assert_eq!(first_used(&[210.0], &amounts), Some(210.0));
        assert_eq!(first_used(&[], &amounts), None);
        amounts.set_tool(usize::MAX, 5.0);
        assert_eq!(amounts.of_tools.len(), 2);
        amounts.place(&[2, 4]);
        assert_eq!(amounts.used(4), [false, false, false, true]);
        amounts.place(&[1]);
        assert_eq!(amounts.of_tools.len(), 4);
    }
}
