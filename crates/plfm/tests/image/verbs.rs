//! What the verbs do.

use serde_json::json;

use crate::host::Host;

fn config() -> serde_json::Value {
    json!({
        "Entrypoint": ["/bin/server"], "Cmd": ["--port", "80 and more"], "Env": ["PATH=/bin", "TOKEN=hunter2"],
        "WorkingDir": "/srv", "User": "app", "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
    })
}

#[test]
fn an_image_is_pulled_listed_shown_and_removed() {
    let host = Host::new();
    host.layout("web", "hello", config());
    host.layout("job", "work", json!({}));
    let mut told = String::new();
    for args in [
        "image list",
        "image pull oci:web",
        "image pull oci:web",
        "image pull oci:job",
        "image show oci:web",
        "image gc",
        "image gc",
        "image list",
    ] {
        let args: Vec<&str> = args.split(' ').collect();
        told += &host.plfm(&args).told(&args);
    }
    assert!(!told.contains("hunter2"), "an environment value is shown: {told}");
    insta::assert_snapshot!(told);
}

#[test]
fn a_list_is_in_order_of_use() {
    let host = Host::new();
    let [web, job] = ["web", "job"].map(|name| host.layout(name, name, config()));
    let digests = || -> Vec<String> {
        let list = host.json(&["image", "list"]);
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| item["digest"].as_str().unwrap().to_owned())
            .collect()
    };
    host.json(&["image", "pull", "oci:web"]);
    host.json(&["image", "pull", "oci:job"]);
    assert_eq!(digests(), [job.clone(), web.clone()]);
    host.json(&["image", "pull", "oci:web"]);
    assert_eq!(digests(), [web, job]);
}

#[test]
fn json_is_one_document_with_the_same_facts() {
    let host = Host::new();
    let digest = host.layout("web", "hello", config());
    let pulled = host.json(&["image", "pull", "oci:web"]);
    assert_eq!(
        (&pulled["built"], &pulled["fetched_bytes"]),
        (&true.into(), &0.into())
    );
    let shown = host.json(&["image", "show", &digest[.."sha256:".len() + 8]]);
    assert_eq!(shown["digest"], digest);
    assert_eq!(shown["program"]["env"], json!(["PATH", "TOKEN"]));
    let disk = host
        .path("state/images")
        .join(format!("{}-erofs-1/disk", &digest["sha256:".len()..]));
    let bytes = std::fs::read(disk).unwrap();
    let found = format!("sha256:{}", plfm_release::Sha256Digest::of(&bytes));
    assert_eq!(shown["disk_digest"], found);
    assert_eq!(shown["disk_bytes"], bytes.len());
    let collected = host.json(&["image", "gc"]);
    assert_eq!(collected["removed"], json!([digest]));
}

#[test]
fn several_who_pull_the_same_make_it_once() {
    let host = Host::new();
    host.layout("web", "hello", config());
    let pulls: Vec<bool> = std::thread::scope(|scope| {
        let pull = || {
            host.json(&["image", "pull", "oci:web"])["built"]
                .as_bool()
                .unwrap()
        };
        let pulls: Vec<_> = (0..6).map(|_| scope.spawn(pull)).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    // Those who joined the one that built it were told so too; one disk it is all the same.
    assert!(pulls.contains(&true));
    assert_eq!(
        host.json(&["image", "list"])["items"].as_array().unwrap().len(),
        1
    );
}
