//! OctoPrint's own update: which version is installed, which is the latest, and whether it is being
//! installed.

use serde::{Deserialize, Serialize};

use super::{Background, Feature, FeatureParts, Scene};
use crate::bridge::printer::discovery::facts::Fact;
use crate::bridge::printer::snapshot::json::{Raw, member, object};
use crate::octoprint::{Message, MessageKind, Plugin, UPDATE_PLUGIN, UpdateCheck};

/// Publishes what OctoPrint's Software Update knows of OctoPrint itself.
#[derive(Default)]
pub(super) struct UpdateState {
    check: UpdateCheck,
    published: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct UpdatePayload<'a> {
    installed_version: Option<&'a str>,
    latest_version: Option<&'a str>,
    release_url: Option<&'a str>,
    title: Option<&'a str>,
    in_progress: bool,
}

impl UpdateState {
    pub(super) fn make(_: &FeatureParts<'_>) -> Option<Box<dyn Feature>> {
        Some(Box::new(Self::default()))
    }

    fn set_running(&mut self, is_running: bool, scene: &mut Scene<'_>) {
        self.check.is_running = is_running;
        self.publish(scene);
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let payload = UpdatePayload {
            installed_version: self.check.installed.as_deref(),
            latest_version: self.check.latest.as_deref(),
            release_url: self.check.release_url.as_deref(),
            title: self.check.title.as_deref(),
            in_progress: self.check.is_running,
        };
        // Texts always have a JSON form.
        let payload = serde_json::to_vec(&payload).unwrap_or_default();
        if self.published.as_ref() != Some(&payload) {
            scene.publish_state(&scene.topics.update, payload.clone());
            self.published = Some(payload);
        }
    }
}

/// Whether OctoPrint is updating itself after this message of its plugin; `None` if that is unchanged.
fn is_running(plugin: &Plugin<'_>) -> Option<bool> {
    #[derive(Deserialize, Default)]
    struct PluginData<'a> {
        #[serde(borrow, default)]
        r#type: Raw<'a>,
        #[serde(borrow, default)]
        data: Raw<'a>,
    }
    #[derive(Deserialize, Default)]
    struct UpdateTarget<'a> {
        #[serde(borrow, default)]
        target: Raw<'a>,
    }
    let PluginData { r#type, data } =
        object(plugin.data.filter(|_| plugin.plugin == UPDATE_PLUGIN));
    match member::<String>(r#type)?.as_str() {
        "updating" => {
            let target: UpdateTarget<'_> = object(data);
            (member::<String>(target.target)? == "octoprint").then_some(true)
        }
        "success" | "error" | "update_failed" | "restart_manually" | "restart_failed" => {
            Some(false)
        }
        _ => None,
    }
}

impl Feature for UpdateState {
    fn start(&mut self, scene: &mut Scene<'_>) {
        self.published = None;
        self.publish(scene);
    }

    fn message(&mut self, message: &Message, scene: &mut Scene<'_>) {
        // Nothing runs after a restart, unless the next check says so.
        if *message.kind() == MessageKind::Connected {
            self.set_running(false, scene);
        }
    }

    fn plugin(&mut self, plugin: &Plugin<'_>, scene: &mut Scene<'_>) {
        if let Some(is_running) = is_running(plugin) {
            self.set_running(is_running, scene);
        }
    }

    fn learn(&mut self, fact: &Fact, scene: &mut Scene<'_>) {
        if let Fact::Update(check) = fact {
            self.check = check.clone().unwrap_or_default();
            self.publish(scene);
        }
    }

    fn restart(&mut self, _: &Background) {}
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::bridge::printer::features::stage::Stage;
    use crate::bridge::printer::features::{pass_message, plugin_of};

    fn tell(
        stage: &mut Stage,
        feature: &mut UpdateState,
        kind: &str,
        payload: &Value,
    ) -> Vec<Value> {
        let now = tokio::time::Instant::now();
        let wall = std::time::SystemTime::now();
        let message = Message::new(kind, payload.to_string().into(), now, wall, 1).unwrap();
        let plugin = plugin_of(&message);
        let said = stage.run(|scene| pass_message(feature, &message, plugin.as_ref(), scene));
        said.into_iter().map(|(_, payload)| payload).collect()
    }

    fn plugin(stage: &mut Stage, feature: &mut UpdateState, data: &Value) -> Vec<Value> {
        let payload = json!({"plugin": "softwareupdate", "data": data});
        tell(stage, feature, "plugin", &payload)
    }

    #[tokio::test]
    async fn what_octoprint_knows_is_published_when_it_changes() {
        let (mut stage, mut feature) = (Stage::new(), UpdateState::default());
        let none = json!({"installed_version": null, "latest_version": null, "release_url": null,
            "title": null, "in_progress": false});
        let said = stage.run(|scene| feature.start(scene));
        assert_eq!(said, [("update".to_owned(), none.clone())]);
        let check = UpdateCheck {
            installed: Some("1.11.7".to_owned()),
            latest: Some("1.11.8".to_owned()),
            ..UpdateCheck::default()
        };
        let fact = Fact::Update(Some(check));
        let said = stage.run(|scene| feature.learn(&fact, scene));
        assert_eq!(said[0].1["latest_version"], "1.11.8");
        assert!(stage.run(|scene| feature.learn(&fact, scene)).is_empty(), "nothing has changed");
        let said = stage.run(|scene| feature.learn(&Fact::Update(None), scene));
        assert_eq!(said, [("update".to_owned(), none)], "the plugin is disabled now");
    }

    #[tokio::test]
    async fn an_update_runs_from_its_first_message_to_its_last() {
        let (mut stage, mut feature) = (Stage::new(), UpdateState::default());
        stage.run(|scene| feature.start(scene));
        let updating = |target: &str| json!({"type": "updating", "data": {"target": target}});
        assert!(plugin(&mut stage, &mut feature, &updating("pip")).is_empty());
        for end in ["success", "error", "update_failed", "restart_manually", "restart_failed"] {
            let said = plugin(&mut stage, &mut feature, &updating("octoprint"));
            assert_eq!(said[0]["in_progress"], true);
            assert!(plugin(&mut stage, &mut feature, &json!({"type": "loglines"})).is_empty());
            let said = plugin(&mut stage, &mut feature, &json!({"type": end, "data": {}}));
            assert_eq!(said[0]["in_progress"], false, "{end}");
        }
        plugin(&mut stage, &mut feature, &updating("octoprint"));
        let other = json!({"plugin": "other", "data": {"type": "success"}});
        assert!(tell(&mut stage, &mut feature, "plugin", &other).is_empty());
        // It has restarted.
        let said = tell(&mut stage, &mut feature, "connected", &json!({}));
        assert_eq!(said[0]["in_progress"], false);
    }
}
