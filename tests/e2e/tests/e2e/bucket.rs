//! A registry in an S3 bucket: published to over the S3 protocol, read by an agent over plain HTTP.

use crate::host::Host;
use crate::lab;
use crate::mirrors::assert_lab_release_is_current;
use crate::publisher::Registry;

crate::facts![a_bucket_that_everybody_may_read_is_a_registry];

fn a_bucket_that_everybody_may_read_is_a_registry() {
    let server = lab::s3().unwrap();
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    let prefix = format!("plfm/e2e-{since_1970}");
    let registry = Registry::at(
        &format!("s3://{prefix}"),
        &[
            ("AWS_ENDPOINT", &server),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ],
    );
    let host = Host::of_registry(&registry.root(), &[&format!("{server}/{prefix}")]);
    host.plfm(["release", "fetch", "20260101a", "--current"]).ok();
    assert_lab_release_is_current(&host);
}
