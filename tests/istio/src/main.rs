//! A real Istio to try policies in, without a cluster: `make istio-shell`.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use mesh_authz_istio::{Mesh, MeshSettings, Workloads};

const GUIDE: &str = "\
This shell is in the network of a real Istio. It has no cluster: a pod is a network namespace.

  kubectl get deployments,authorizationpolicies,wasmplugins
  in-pod frontend curl -s -o /dev/null -w '%{http_code}\\n' http://backend/api/v1/data
  mesh-authz render wasm-plugin POLICIES… --url $IMAGE --sha256 $DIGEST | kubectl apply --server-side -f -
  proxy-log backend              what the proxy of the backend logs
  kubectl apply -f FILE          a Deployment gets one pod, a second later

docs/istio-shell.md says more. Everything ends with this shell.
";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("istio-shell: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let settings = MeshSettings::from_environment()?;
    let image_layout = settings.image.clone();
    eprintln!("istio-shell: starting Kubernetes' API server and istiod");
    let mesh = Mesh::start(settings)?;
    let tools = Tools::new(&mesh, &image_layout)?;
    eprintln!("istio-shell: applying examples/istio, and starting its pods");
    tools.command("tests/istio/apply-example.sh").status().context("applying the example")?;
    let workloads = Mutex::new(Workloads::default());
    let update = || -> Result<()> {
        let mut workloads = workloads.lock().unwrap_or_else(PoisonError::into_inner);
        workloads.update(&mesh)?;
        mesh.publish_names()?;
        tools.list(&workloads)
    };
    update()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if let Err(error) = update() {
                    eprintln!("istio-shell: {error:#}");
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        let mut arguments = env::args_os().skip(1);
        let mut command = match arguments.next() {
            Some(program) => tools.command(program),
            None => {
                println!("{GUIDE}");
                tools.command(env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()))
            }
        };
        let status = command.args(arguments).status().context("starting the command");
        done.store(true, Ordering::SeqCst);
        Ok(status?.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
    })
}

/// What the shell finds on its path.
struct Tools {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Tools {
    fn new(mesh: &Mesh, image_layout: &Path) -> Result<Self> {
        let folder = mesh.home().join("tools");
        fs::create_dir_all(folder.join("pods"))?;
        symlink(mesh.programs().join("bin/kubectl"), folder.join("kubectl"))?;
        let mesh_authz = env::var_os("MESH_AUTHZ").context("MESH_AUTHZ is not set: run `make istio-shell`")?;
        symlink(mesh_authz, folder.join("mesh-authz"))?;
        let script = |name: &str, text: &str| -> Result<()> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
        };
        let pods = folder.join("pods").display().to_string();
        script(
            "in-pod",
            &format!(
                "#!/bin/sh\n# in-pod DEPLOYMENT COMMAND…: runs a command where the Deployment's application is\n\
                 name=$1; shift\nexec ip netns exec \"$(cat \"{pods}/$name.network\")\" \"$@\"\n"
            ),
        )?;
        script(
            "proxy-log",
            &format!(
                "#!/bin/sh\n# proxy-log DEPLOYMENT: what its proxy has logged\nexec cat \"$(cat \"{pods}/$1.log\")\"\n"
            ),
        )?;
        let (tag, digest) = image(image_layout)?;
        let path = env::var("PATH").unwrap_or_default();
        let variables = vec![
            ("PATH", format!("{}:{path}", folder.display())),
            ("KUBECONFIG", mesh.kubeconfig().display().to_string()),
            ("KUBECACHEDIR", mesh.home().join("cache").display().to_string()),
            ("IMAGE", format!("oci://{}/mesh-authz:{tag}", mesh.registry())),
            ("DIGEST", digest),
            ("PS1", "istio-shell$ ".to_owned()),
        ];
        Ok(Self { folder, variables })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Tells the scripts which pods there are.
    fn list(&self, workloads: &Workloads) -> Result<()> {
        for workload in workloads.all() {
            let file = |end: &str| self.folder.join("pods").join(format!("{}.{end}", workload.name));
            fs::write(file("network"), workload.pod.application_network())?;
            fs::write(file("log"), workload.pod.log_file().display().to_string())?;
        }
        Ok(())
    }
}

/// The tag and the digest (without `sha256:`) of the image in an OCI layout. The first one is for Istio.
fn image(layout: &Path) -> Result<(String, String)> {
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let manifest = &index["manifests"][0];
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let tag = text(&manifest["annotations"]["org.opencontainers.image.ref.name"]);
    let digest = text(&manifest["digest"]).and_then(|digest| Some(digest.strip_prefix("sha256:")?.to_owned()));
    tag.zip(digest).context("the image's layout has no image")
}
