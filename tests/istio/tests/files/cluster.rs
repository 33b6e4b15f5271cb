//! What a cluster makes of files: the program `admission` asks it.

use std::{
    io::{BufRead as _, BufReader, BufWriter, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
};

use mesh_authz_istio::Mesh;
use serde_json::{Value, json};

/// The program that asks the cluster. It ends when this is dropped.
pub struct Cluster {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    pub fn of(mesh: &Mesh) -> Self {
        let mut child = Command::new(mesh.programs().join("bin/admission"))
            .env("KUBECONFIG", mesh.kubeconfig())
            .env("KUBECACHEDIR", mesh.home().join("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, stdin, stdout: BufReader::new(stdout).lines() }
    }

    /// Asks about files, and calls `judge` with the number of each and its verdict, as it comes.
    pub fn ask(&mut self, files: &[String], mut judge: impl FnMut(usize, Value)) {
        let Self { stdin, stdout, .. } = self;
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut stdin = BufWriter::new(stdin);
                for (number, text) in files.iter().enumerate() {
                    writeln!(stdin, "{}", json!({ "id": number, "text": text })).unwrap();
                }
            });
            for line in stdout.take(files.len()) {
                let verdict: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let number = usize::try_from(verdict["id"].as_u64().unwrap()).unwrap();
                judge(number, verdict);
            }
        });
    }
}
