//! Calls of plugins' own interfaces.

use std::fmt;

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::client::Rest;
use super::error::RestError;
use super::http::invalid_argument;

/// The method of a plugin's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of HTTP")]
pub enum PluginMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl PluginMethod {
    fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// A call of a plugin.
#[derive(Clone, PartialEq)]
pub struct PluginCall {
    /// The plugin's identifier.
    pub plugin: String,
    /// The method.
    pub method: PluginMethod,
    /// A path below `plugin/<id>`; `None` for the plugin's simple interface at `api/plugin/<id>`.
    pub path: Option<String>,
    /// The query, by name.
    pub query: Vec<(String, String)>,
    /// The JSON body; an empty object by default, and never sent with GET.
    pub body: Option<Value>,
}

impl fmt::Debug for PluginCall {
    /// Shows neither query nor body, which may contain passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginCall({:?} {} {:?})", self.method, self.plugin, self.path)
    }
}

impl PluginCall {
    /// Returns path and query below `base`, which ends with `/`, each part escaped.
    ///
    /// # Errors
    /// [`RestError`] if `base` cannot have a path.
    pub fn address(&self, base: &Url) -> Result<String, RestError> {
        let mut url = base.clone();
        let no_path = || invalid_argument("plugin", "the base address has no path");
        {
            let mut segments = url.path_segments_mut().map_err(|()| no_path())?;
            segments.pop_if_empty();
            match &self.path {
                Some(path) => segments.push("plugin").push(&self.plugin).extend(path.split('/')),
                None => segments.extend(["api", "plugin", self.plugin.as_str()]),
            };
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        let path = url.path().get(base.path().len()..).unwrap_or_default();
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("{path}{query}"))
    }
}

impl Rest {
    /// Calls a plugin.
    ///
    /// # Errors
    /// [`RestError`]; status 400 if OctoPrint has no such plugin with a simple interface, or the
    /// plugin no such command; 404 for a path that the plugin does not have.
    pub async fn plugin_call(&self, call: &PluginCall) -> Result<(), RestError> {
        let body = call.body.clone().unwrap_or_else(|| json!({}));
        let body = (call.method != PluginMethod::Get).then_some(&body);
        let address = call.address(self.http().base())?;
        self.call(call.method.method(), &address, body).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_escaped_and_stay_below_the_plugin() {
        let mut call = PluginCall {
            plugin: "octolight".to_owned(),
            method: PluginMethod::Get,
            path: None,
            query: Vec::new(),
            body: None,
        };
        for base in ["http://h/", "https://h:1/mk%203/octoprint/"] {
            let base = Url::parse(base).unwrap();
            call.path = None;
            call.query = vec![("action".into(), "turn on&x=1".into()), ("b".into(), "é".into())];
            let address = "api/plugin/octolight?action=turn+on%26x%3D1&b=%C3%A9";
            assert_eq!(call.address(&base).unwrap(), address);
            call.path = Some("outputs/a b?#".to_owned());
            call.query.clear();
            assert_eq!(call.address(&base).unwrap(), "plugin/octolight/outputs/a%20b%3F%23");
        }
    }

    #[test]
    fn what_a_call_carries_is_not_shown() {
        let call = PluginCall {
            plugin: "x".to_owned(),
            method: PluginMethod::Post,
            path: None,
            query: vec![("q".into(), "MARKER".into())],
            body: Some(json!({"password": "MARKER"})),
        };
        assert!(!format!("{call:?}").contains("MARKER"));
    }

    #[test]
    fn errors_do_not_show_the_query() {
        let error = invalid_argument("api/plugin/a?key=MARKER", "x");
        assert_eq!(error.path(), Some("api/plugin/a"));
        assert!(!format!("{error} {error:?}").contains("MARKER"), "{error:?}");
    }
}
