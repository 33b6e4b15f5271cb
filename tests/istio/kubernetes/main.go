// A Kubernetes API server with its etcd in one process. It takes the flags of kube-apiserver. ETCD_DIRECTORY says where
// etcd keeps its data, and ETCD_PORT where it listens.
package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func startEtcd(directory, port string) error {
	clients := []url.URL{{Scheme: "http", Host: "127.0.0.1:" + port}}
	peers := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config := embed.NewConfig()
	config.Dir = directory
	config.LogLevel = "error"
	// The data lives no longer than the process.
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	<-etcd.Server.ReadyNotify()
	return nil
}

func main() {
	if err := startEtcd(os.Getenv("ETCD_DIRECTORY"), os.Getenv("ETCD_PORT")); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
