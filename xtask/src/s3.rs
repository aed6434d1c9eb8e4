//! An S3 server for the tests: moto, from PyPI, on loopback.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};

use crate::pypi;
use crate::shell::{cargo, run, run_quietly, step};

const MOTO: pypi::Program = pypi::Program {
    requirement: "moto[server]",
    version: "5.2.5",
    program: "moto_server",
};
/// A bucket that everybody may read, as a registry's is.
const MAKE_BUCKET: &str = r#"
import json, sys, boto3
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1",
                  aws_access_key_id="test", aws_secret_access_key="test")
s3.create_bucket(Bucket="plfm")
read = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::plfm/*"}
s3.put_bucket_policy(Bucket="plfm", Policy=json.dumps({"Version": "2012-10-17", "Statement": [read]}))
"#;

/// The server, with a bucket named `plfm`; ended when dropped.
pub struct Server {
    process: Child,
    url: String,
}

impl Server {
    /// Starts it; `None`, said aloud, where it can't be had.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(bin) = MOTO.ensure("the S3 tests are")? else {
            return Ok(None);
        };
        step("starting an S3 server");
        let process = Command::new(bin.join("moto_server"))
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start moto_server")?;
        let mut server = Self {
            process,
            url: String::new(),
        };
        server.url = server.wait_for_url()?;
        run_quietly(Command::new(bin.join("python")).args(["-c", MAKE_BUCKET, &server.url]))?;
        Ok(Some(server))
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// It says where it listens once it does.
    fn wait_for_url(&mut self) -> anyhow::Result<String> {
        let mut lines = BufReader::new(self.process.stderr.take().context("a pipe is there")?);
        let mut line = String::new();
        let mut said = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some((_, url)) = line.split_once("Running on ") {
                let url = url.trim().to_owned();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Ok(url);
            }
            said.push_str(&std::mem::take(&mut line));
        }
        bail!("moto_server ended:\n{said}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The registry's own tests against the server.
pub fn test_registry(server: &Server) -> anyhow::Result<()> {
    step("the registry's tests on S3");
    let mut command = cargo();
    run(command
        .args([
            "test",
            "--quiet",
            "--locked",
            "-p",
            "plfm-registry",
            "--test",
            "it",
            "s3::",
        ])
        .args(["--", "--ignored"])
        .env("PLFM_TEST_S3", server.url()))
}
