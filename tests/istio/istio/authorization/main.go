// Asks Istio's own code which filters it generates from AuthorizationPolicies, as istiod does for an inbound listener.
//
// It reads one object of JSON a line, and answers each with one line, as the types question and answer say. Policies
// that Istio's webhook would refuse are named in `invalid`; the filters are generated regardless, as istiod does it for
// what is in the cluster.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/protobuf/proto"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/config/memory"
	"istio.io/istio/pilot/pkg/features"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking"
	"istio.io/istio/pilot/pkg/networking/plugin/authz"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/validation"
	istiolog "istio.io/istio/pkg/log"
	"istio.io/istio/pkg/util/protomarshal"
)

// A question is a set of policies, and the workload that they are for.
type question struct {
	Policies      []json.RawMessage `json:"policies"`
	Namespace     string            `json:"namespace"`
	Labels        map[string]string `json:"labels"`
	TrustDomain   string            `json:"trustDomain"`
	Aliases       []string          `json:"aliases"`
	RootNamespace string            `json:"rootNamespace"`
	// Set for a waypoint: the service that a request is for.
	Service *service `json:"service"`
	// The providers of CUSTOM policies, and whether those of a workload may name several.
	ExtensionProviders json.RawMessage `json:"extensionProviders"`
	SeveralProviders   bool            `json:"severalProviders"`
}

// A service behind a waypoint.
type service struct {
	// Service or ServiceEntry.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// An answer has the filters, in their order.
type answer struct {
	// Why the webhook refuses policies, by their position.
	Invalid map[int]string    `json:"invalid"`
	HTTP    []json.RawMessage `json:"http"`
	TCP     []json.RawMessage `json:"tcp"`
}

func main() {
	for _, scope := range istiolog.Scopes() {
		scope.SetOutputLevel(istiolog.NoneLevel)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<28)
	answers := json.NewEncoder(os.Stdout)
	answers.SetEscapeHTML(false)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fail(err)
		}
		generated, err := generate(asked)
		if err != nil {
			fail(err)
		}
		if err := answers.Encode(generated); err != nil {
			fail(err)
		}
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "authorization:", err)
	os.Exit(1)
}

func generate(asked question) (answer, error) {
	generated := answer{Invalid: map[int]string{}, HTTP: []json.RawMessage{}, TCP: []json.RawMessage{}}
	// As in a cluster that has the policies, whatever the webhook says.
	store := memory.MakeSkipValidation(collections.Pilot)
	for position, policy := range asked.Policies {
		var object crd.IstioKind
		if err := json.Unmarshal(policy, &object); err != nil {
			return generated, err
		}
		converted, err := crd.ConvertObject(collections.AuthorizationPolicy, &object, "")
		if err != nil {
			return generated, err
		}
		if _, err := validation.ValidateAuthorizationPolicy(*converted); err != nil {
			generated.Invalid[position] = err.Error()
		}
		if _, err := store.Create(*converted); err != nil {
			return generated, err
		}
	}
	mesh := &meshconfig.MeshConfig{}
	if asked.ExtensionProviders != nil {
		text := fmt.Sprintf(`{"extensionProviders": %s}`, asked.ExtensionProviders)
		if err := protomarshal.Unmarshal([]byte(text), mesh); err != nil {
			return generated, err
		}
	}
	mesh.TrustDomain, mesh.TrustDomainAliases, mesh.RootNamespace = asked.TrustDomain, asked.Aliases, asked.RootNamespace
	features.EnableMultipleCustomAuthzProviders = asked.SeveralProviders
	environment := &model.Environment{ConfigStore: store, Watcher: meshwatcher.NewTestWatcher(mesh)}
	push := &model.PushContext{AuthzPolicies: model.GetAuthorizationPolicies(environment), Mesh: mesh}
	push.ServiceIndex.HostnameAndNamespace = map[host.Name]map[string]*model.Service{}
	for _, name := range []host.Name{"a.example.com", "b.example.com"} {
		push.ServiceIndex.HostnameAndNamespace[name] = map[string]*model.Service{"shop": {Hostname: name}}
	}
	proxy := &model.Proxy{
		ID: "proxy", Type: model.SidecarProxy, ConfigNamespace: asked.Namespace, Labels: asked.Labels,
		Metadata: &model.NodeMetadata{Labels: asked.Labels, Namespace: asked.Namespace},
	}
	var behind *model.Service
	if asked.Service != nil {
		proxy.Type = model.Waypoint
		behind = &model.Service{Attributes: model.ServiceAttributes{
			Name: asked.Service.Name, Namespace: asked.Service.Namespace, ServiceRegistry: provider.Kubernetes,
		}}
		if asked.Service.Kind == "ServiceEntry" {
			behind.Attributes.ServiceRegistry = provider.External
		}
	}
	for _, action := range []authz.ActionType{authz.Custom, authz.Local} {
		builder := authz.NewBuilderForService(action, push, proxy, behind != nil, behind)
		for _, filter := range builder.BuildHTTP(networking.ListenerClassSidecarInbound) {
			if err := add(&generated.HTTP, filter); err != nil {
				return generated, err
			}
		}
		for _, filter := range builder.BuildTCP() {
			if err := add(&generated.TCP, filter); err != nil {
				return generated, err
			}
		}
	}
	return generated, nil
}

func add(filters *[]json.RawMessage, filter proto.Message) error {
	text, err := protomarshal.Marshal(filter)
	*filters = append(*filters, text)
	return err
}
