//! What metrics and health checks ask.

use std::collections::BTreeSet;

use super::Agent;
use crate::metrics::Glance;

impl Agent {
    /// The metrics as Prometheus reads them. Blocking.
    pub(crate) fn render_metrics(&self) -> Result<String, std::fmt::Error> {
        let (generation, is_connected) = self.control().map(|control| control.glance()).unwrap_or_default();
        let (images, image_bytes) = self.images_size();
        self.0.metrics.render(Glance {
            images,
            image_bytes,
            cache_bytes: self.cache_bytes(),
            generation: generation.0,
            is_connected,
        })
    }

    /// Why no new instance can boot here; nothing, if one can. Blocking.
    pub(crate) fn why_not_ready(&self) -> Option<String> {
        if self.control().is_some_and(|control| control.is_draining()) {
            return Some("draining".to_owned());
        }
        match self.select_default() {
            Ok(_) => None,
            Err(passed_over) if passed_over.is_empty() => Some("no current release".to_owned()),
            Err(passed_over) => {
                let why: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
                Some(why.join(", "))
            }
        }
    }

    /// What installed artifacts take, each once: under their digests they all are in one directory.
    fn cache_bytes(&self) -> u64 {
        let blobs = self.0.settings.cache_dir().join(".blobs");
        let entries = std::fs::read_dir(blobs).into_iter().flatten();
        let sizes = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        sizes.sum()
    }

    /// Forgets the series of releases that are neither installed nor run. Blocking.
    pub(super) fn forget_metrics(&self) {
        if let Ok(installed) = self.installed_ids() {
            let running: BTreeSet<_> = self.running().into_keys().collect();
            self.0
                .metrics
                .forget_all_but(&installed.union(&running).cloned().collect());
        }
    }
}
