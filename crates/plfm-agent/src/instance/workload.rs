//! The program that an instance runs: what its request says, and its image where that says nothing. Pure.

use std::collections::BTreeMap;

use plfm_api::CreateInstance;
use plfm_guest_protocol::{Rlimit, Sensitive, Workload};
use plfm_rootdisk::{ImageDefaults, WorkloadRequest, merge};

use crate::agent::workload_error;
use crate::problem::ApiError;

/// How long a program may take to end, in seconds, if nobody says otherwise.
const STOP_GRACE_SECONDS_DEFAULT: u32 = 10;

/// The program of a request; `defaults` are its image's, if it has one.
pub fn workload_of(request: &CreateInstance, defaults: Option<&ImageDefaults>) -> Result<Workload, ApiError> {
    match defaults {
        Some(defaults) => {
            merge(defaults, over_image(&request.workload)).map_err(|error| workload_error(&error))
        }
        None if request.workload.entrypoint.is_some() => Err(ApiError::invalid(
            "instance_invalid",
            "an entrypoint is an image's: with a root disk say all of the program in argv",
        )),
        None => Ok(alone(&request.workload)),
    }
}

fn over_image(asked: &plfm_api::Workload) -> WorkloadRequest {
    WorkloadRequest {
        entrypoint: asked.entrypoint.clone(),
        args: Some(asked.argv.clone()).filter(|argv| !argv.is_empty()),
        env: env(asked),
        cwd: asked.cwd.clone(),
        user: asked.user.clone(),
        groups: asked.groups.clone(),
        stdin: false,
        tty: asked.tty,
        stop_signal: asked.stop_signal.clone(),
        stop_grace_seconds: asked.stop_grace_seconds,
        rlimits: asked.rlimits.iter().map(rlimit).collect(),
        pids_max: asked.pids_max,
    }
}

/// With a root disk the request says all there is to say.
fn alone(asked: &plfm_api::Workload) -> Workload {
    Workload {
        argv: asked.argv.clone(),
        cwd: asked.cwd.clone().unwrap_or_else(|| "/".to_owned()),
        env: env(asked),
        uid: 0,
        gid: 0,
        user: asked.user.clone(),
        groups: asked.groups.clone(),
        stdin: false,
        tty: asked.tty,
        stop_signal: asked.stop_signal.clone().unwrap_or_else(|| "SIGTERM".to_owned()),
        stop_grace_seconds: asked.stop_grace_seconds.unwrap_or(STOP_GRACE_SECONDS_DEFAULT),
        rlimits: asked.rlimits.iter().map(rlimit).collect(),
        pids_max: asked.pids_max,
    }
}

fn env(asked: &plfm_api::Workload) -> BTreeMap<String, Sensitive> {
    let entry = |(key, value): (&String, &String)| (key.clone(), Sensitive::new(value.clone()));
    asked.env.iter().map(entry).collect()
}

fn rlimit(limit: &plfm_api::Rlimit) -> Rlimit {
    let plfm_api::Rlimit { name, soft, hard } = limit.clone();
    Rlimit { name, soft, hard }
}

/// What a guest init that does not know it must refuse rather than leave out.
pub fn required_features(workload: &Workload) -> Vec<String> {
    let features = [
        ("output_stream", true),
        ("rlimits", !workload.rlimits.is_empty()),
        ("pids_max", workload.pids_max.is_some()),
    ];
    let needed = features.into_iter().filter(|(_, needed)| *needed);
    needed.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(workload: serde_json::Value) -> CreateInstance {
        serde_json::from_value(serde_json::json!({ "image": "x", "workload": workload })).unwrap()
    }

    fn image() -> ImageDefaults {
        ImageDefaults {
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["serve".to_owned()],
            stop_signal: Some("SIGQUIT".to_owned()),
            ..ImageDefaults::default()
        }
    }

    #[test]
    fn an_image_says_what_the_request_leaves_out() {
        let workload = workload_of(&request(serde_json::json!({})), Some(&image())).unwrap();
        assert_eq!(workload.argv, ["/entry", "serve"]);
        assert_eq!(
            (workload.stop_signal.as_str(), workload.stop_grace_seconds),
            ("SIGQUIT", 10)
        );
        let asked = serde_json::json!({"argv": ["check"], "stop_signal": "SIGINT"});
        let workload = workload_of(&request(asked), Some(&image())).unwrap();
        assert_eq!(workload.argv, ["/entry", "check"]);
        assert_eq!(workload.stop_signal, "SIGINT");
        let asked = serde_json::json!({"entrypoint": ["/bin/sh"]});
        assert_eq!(
            workload_of(&request(asked), Some(&image())).unwrap().argv,
            ["/bin/sh"]
        );
    }

    #[test]
    fn an_image_that_says_nothing_is_refused_with_a_code() {
        let refused = workload_of(&request(serde_json::json!({})), Some(&ImageDefaults::default()));
        let refused = refused.unwrap_err();
        assert_eq!(
            (refused.code(), refused.is_refusal()),
            ("image_no_command", false)
        );
    }

    #[test]
    fn a_root_disk_has_no_entrypoint() {
        let asked = serde_json::json!({"entrypoint": ["/bin/sh"]});
        assert_eq!(
            workload_of(&request(asked), None).unwrap_err().code(),
            "instance_invalid"
        );
    }
}
