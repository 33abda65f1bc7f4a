//! The job as OctoPrint has it at this moment.

use serde_json::Value;

use super::client::Rest;
use super::error::RestError;

/// The job as OctoPrint has it at this moment, each member by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobStatus {
    /// OctoPrint's text for the printer's state, such as `Printing`.
    pub state: Option<String>,
    /// The printer's error, where OctoPrint has one.
    pub error: Option<String>,
    /// Where the selected file is stored.
    pub origin: Option<String>,
    /// The path of the selected file there.
    pub path: Option<String>,
    /// The name of the selected file.
    pub name: Option<String>,
}

impl JobStatus {
    fn read(answer: &Value) -> Self {
        let text =
            |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let file = &answer["job"]["file"];
        Self {
            state: text(&answer["state"]),
            error: text(&answer["error"]),
            origin: text(&file["origin"]),
            path: text(&file["path"]),
            name: text(&file["name"]),
        }
    }

    /// Whether a file is selected.
    pub fn has_file(&self) -> bool {
        self.path.is_some() || self.name.is_some()
    }
}

impl Rest {
    /// The job as OctoPrint has it at this moment: the printer's state and the selected file.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn job_status(&self) -> Result<JobStatus, RestError> {
        self.get_json("api/job").await.map(|answer: Value| JobStatus::read(&answer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_member_is_read_by_itself() {
        let status = JobStatus::read(&json!({
            "job": {"file": {"name": "a.gcode", "path": "d/a.gcode", "origin": "local"}},
            "state": "Printing", "error": "",
        }));
        assert_eq!(status.state.as_deref(), Some("Printing"));
        assert_eq!((status.error.as_ref(), status.has_file()), (None, true));
        assert_eq!(
            JobStatus::read(&json!({"job": {"file": {"path": null}}, "state": 5})),
            JobStatus::default()
        );
        assert!(!JobStatus::read(&json!([])).has_file());
    }
}
