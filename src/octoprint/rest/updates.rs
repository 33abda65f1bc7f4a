//! OctoPrint's own update, by its bundled plugin Software Update.

use serde_json::{Value, json};

use super::client::Rest;
use super::error::RestError;

/// The plugin.
pub const UPDATE_PLUGIN: &str = "softwareupdate";
/// Only OctoPrint itself: its plugins are checked by its own page.
const CHECK: &str = "plugin/softwareupdate/check?targets=octoprint";
const UPDATE: &str = "plugin/softwareupdate/update";
/// Updates that wait for the end of a print.
const QUEUED: &str = "plugin/softwareupdate/update/queued";
const TARGET: &str = "octoprint";

/// What OctoPrint knows of its own versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateCheck {
    /// The installed version.
    pub installed: Option<String>,
    /// The latest version; the installed one if there is no newer one, and `None` if OctoPrint could
    /// not find out.
    pub latest: Option<String>,
    /// Where the changes are described.
    pub release_url: Option<String>,
    /// OctoPrint's name for itself.
    pub title: Option<String>,
    /// Whether a newer version is available.
    pub is_available: bool,
    /// Whether OctoPrint can install it by itself.
    pub is_possible: bool,
    /// Whether it is being installed.
    pub is_running: bool,
}

impl UpdateCheck {
    /// Reads the answer to `GET /plugin/softwareupdate/check`. `None` if OctoPrint is not in it.
    fn read(answer: &Value) -> Option<Self> {
        let target = answer["information"][TARGET].as_object()?;
        let member = |name: &str| target.get(name).unwrap_or(&Value::Null);
        let information = member("information");
        let version = |value: &Value| {
            let text = value.as_str().map(str::trim);
            // What OctoPrint has in place of an unknown one.
            text.filter(|text| !matches!(*text, "" | "?" | "-")).map(str::to_owned)
        };
        let local = version(&information["local"]["value"]);
        let installed = local.or_else(|| version(member("displayVersion")));
        let remote = version(&information["remote"]["value"]);
        let is_available = *member("updateAvailable") == true;
        let is_url = |text: &&str| text.starts_with("https://") || text.starts_with("http://");
        Some(Self {
            latest: remote.and_then(
                |remote| {
                    if is_available { Some(remote) } else { installed.clone() }
                },
            ),
            installed,
            release_url: member("releaseNotes").as_str().filter(is_url).map(str::to_owned),
            title: version(member("displayName")),
            is_available,
            is_possible: *member("updatePossible") == true,
            is_running: answer["status"] == "inProgress",
        })
    }
}

impl Rest {
    /// Returns what OctoPrint knows of its own update. It may ask in the internet, which takes up to half
    /// a minute; `None` if it does not check itself.
    ///
    /// # Errors
    /// [`RestError`]; status 404 if the plugin is disabled, 403 if this user may not see it.
    pub async fn check_for_update(&self) -> Result<Option<UpdateCheck>, RestError> {
        let answer: Value = self.get_json(CHECK).await?;
        Ok(UpdateCheck::read(&answer))
    }

    /// Makes OctoPrint update itself. Returns whether it has begun; while printing it only would once
    /// the print is done, see [`Rest::cancel_queued_update`].
    ///
    /// # Errors
    /// [`RestError`]; status 409 if OctoPrint cannot, with its reason.
    pub async fn update_octoprint(&self) -> Result<bool, RestError> {
        let body = self.post(UPDATE, &json!({"targets": [TARGET]})).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let order = answer["order"].as_array();
        Ok(order.is_some_and(|order| order.iter().any(|target| target == TARGET)))
    }

    /// Takes back an update that waits for the end of a print.
    ///
    /// # Errors
    /// [`RestError`].
    pub async fn cancel_queued_update(&self) -> Result<(), RestError> {
        self.post(QUEUED, &json!({"command": "cancel", "targets": [TARGET]})).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(remote: &str, available: bool) -> Value {
        json!({
            "status": "updatePossible", "timestamp": 1,
            "information": {"octoprint": {
                "displayName": "OctoPrint", "displayVersion": "1.11.7",
                "updateAvailable": available, "updatePossible": true, "error": null,
                "releaseNotes": "https://github.com/OctoPrint/OctoPrint/releases/tag/1.11.8",
                "information": {"local": {"name": "1.11.7", "value": "1.11.7"},
                    "remote": {"name": remote, "value": remote}},
            }, "pip": {}},
        })
    }

    #[test]
    fn the_latest_version_is_the_installed_one_if_there_is_no_newer_one() {
        let newer = UpdateCheck::read(&answer("1.11.8", true)).unwrap();
        assert_eq!(newer.installed.as_deref(), Some("1.11.7"));
        assert_eq!(newer.latest.as_deref(), Some("1.11.8"));
        assert!(newer.release_url.unwrap().ends_with("1.11.8") && newer.is_possible);
        let older = UpdateCheck::read(&answer("1.11.6", false)).unwrap();
        assert_eq!(older.latest.as_deref(), Some("1.11.7"));
        // What it says without the internet.
        let offline = UpdateCheck::read(&answer("?", false)).unwrap();
        assert_eq!((offline.latest, offline.installed.as_deref()), (None, Some("1.11.7")));
    }

    #[test]
    fn a_malformed_member_does_not_affect_others() {
        let mut odd = answer("1.11.8", true);
        odd["status"] = json!("inProgress");
        let target = &mut odd["information"]["octoprint"];
        target["releaseNotes"] = json!("javascript:alert(1)");
        target["displayName"] = json!(5);
        target["information"]["local"] = json!({"value": "?"});
        let check = UpdateCheck::read(&odd).unwrap();
        assert_eq!((check.release_url, check.title), (None, None));
        assert_eq!(check.installed.as_deref(), Some("1.11.7"), "as it is displayed");
        assert!(check.is_running);
        for none in [json!({}), json!([]), json!({"information": {"octoprint": null}})] {
            assert_eq!(UpdateCheck::read(&none), None);
        }
    }
}
