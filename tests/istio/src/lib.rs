//! A real Istio on one machine, without a cluster.
//!
//! | part | here |
//! | --- | --- |
//! | Kubernetes | its API server with etcd, and `kubectl` |
//! | the control plane | istiod, with its certificate authority and its webhook |
//! | the data plane | Istio's agent, which starts an Envoy as sidecar, gateway or waypoint |
//! | a registry of images | with the filter's image in it |
//! | the network | a bridge; each pod is a network namespace, whose connections go to its sidecar as Istio's do |
//!
//! [`Mesh`] starts all but pods, and [`Mesh::pod`] starts a pod. What a cluster has and this has not: a kubelet, a
//! scheduler and controllers. So a pod is an object that this code writes, and the endpoints of a Service are too:
//! [`Workloads`] writes them for Deployments and Services.
//!
//! All of it runs in namespaces of its own (`isolated.sh`): its ports and addresses disturb nobody, and it ends with
//! the process that started it.

mod mesh;
mod network;
mod pod;
mod process;
mod recorder;
mod workloads;

pub use mesh::{Mesh, MeshSettings, Registry};
pub use pod::{Pod, PodSpec, Role};
pub use recorder::Recorder;
pub use workloads::{Workload, Workloads, endpoint_slice};
