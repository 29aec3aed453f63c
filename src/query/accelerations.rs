//! The switches of accelerations as settings of a session: `denyut.accelerate_last`, and the like.

use std::any::Any;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::config_err;
use datafusion::error::Result;

use crate::options::Accelerations;

/// The settings' name space.
const PREFIX: &str = "denyut";

/// What is on in a session; all of it where nobody said.
pub(super) fn accelerations(config: &ConfigOptions) -> Accelerations {
    config.extensions.get::<Accelerations>().copied().unwrap_or_default()
}

impl ConfigExtension for Accelerations {
    const PREFIX: &'static str = PREFIX;
}

impl ExtensionOptions for Accelerations {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(*self)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let Some((_, bit, _)) = Self::EACH.iter().find(|(name, ..)| *name == key) else {
            let names: Vec<&str> = Self::EACH.iter().map(|(name, ..)| *name).collect();
            return config_err!("no setting {PREFIX}.{key}; there are {}", names.join(", "));
        };
        match value.to_ascii_lowercase().as_str() {
            "true" | "on" => Self::set(self, *bit, true),
            "false" | "off" => Self::set(self, *bit, false),
            _ => return config_err!("{PREFIX}.{key} is true or false, not {value}"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |(name, bit, about): &(&str, u32, &'static str)| ConfigEntry {
            key: format!("{PREFIX}.{name}"),
            value: Some(self.has(*bit).to_string()),
            description: about,
        };
        Self::EACH.iter().map(entry).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::common::config::ConfigOptions;

    use super::accelerations;
    use crate::options::Accelerations;

    #[test]
    fn settings_are_named_and_switched() {
        let mut config = ConfigOptions::new();
        assert_eq!(accelerations(&config), Accelerations::all());
        config.extensions.insert(Accelerations::all().last(false));
        assert!(!accelerations(&config).uses_last());
        config.set("denyut.accelerate_last", "true").unwrap();
        config.set("denyut.accelerate_summaries", "off").unwrap();
        assert!(accelerations(&config).uses_last() && !accelerations(&config).uses_summaries());
        let error = config.set("denyut.accelerate_las", "true").unwrap_err().to_string();
        assert!(error.contains("accelerate_last"), "{error}");
        let error = config.set("denyut.accelerate_last", "2").unwrap_err().to_string();
        assert!(error.contains("true or false"), "{error}");
    }
}
