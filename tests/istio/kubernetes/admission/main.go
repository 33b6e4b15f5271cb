// Asks a Kubernetes API server what it makes of files. It reads each file as `kubectl apply -f` does, with kubectl's own
// code, and has the API server create each object, strictly and as a dry run. So everything has its say that says no in
// a cluster: kubectl, the schemas, and the webhooks.
//
// Each line of standard input is a file, and each line of the output is what became of it, in the order in which the
// answers come. KUBECONFIG says where the API server is.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
)

// The number of files that are asked about at the same time.
const atOnce = 16

// A file has a text, or bytes if it is no text.
type file struct {
	ID    int    `json:"id"`
	Text  string `json:"text"`
	Bytes []byte `json:"bytes"`
}

// An object is what became of one object of a file. Without an error, the API server has taken it.
type object struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Code      int32           `json:"code,omitempty"`
	Error     string          `json:"error,omitempty"`
	Object    json.RawMessage `json:"object,omitempty"`
}

// A verdict is what became of a file. The error is that of kubectl, which cannot read the file or a part of it.
type verdict struct {
	ID      int      `json:"id"`
	Error   string   `json:"error,omitempty"`
	Objects []object `json:"objects"`
}

type cluster struct {
	factory    cmdutil.Factory
	schema     resource.ContentValidator
	client     kubernetes.Interface
	namespaces sync.Map
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	cluster, err := connect()
	if err != nil {
		return err
	}
	files := make(chan file)
	verdicts := make(chan verdict)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for file := range files {
				verdicts <- cluster.ask(file)
			}
		})
	}
	var reading error
	go func() {
		reading = read(files)
		close(files)
		workers.Wait()
		close(verdicts)
	}()
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	for verdict := range verdicts {
		if err := encoder.Encode(verdict); err != nil {
			return err
		}
	}
	return reading
}

func read(files chan<- file) error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var next file
		if err := json.Unmarshal(lines.Bytes(), &next); err != nil {
			return err
		}
		if next.Bytes == nil {
			next.Bytes = []byte(next.Text)
		}
		files <- next
	}
	return lines.Err()
}

func connect() (*cluster, error) {
	flags := genericclioptions.NewConfigFlags(true)
	flags.WrapConfigFn = func(config *rest.Config) *rest.Config {
		config.QPS = -1
		config.WarningHandler = rest.NoWarnings{}
		return config
	}
	factory := cmdutil.NewFactory(flags)
	schema, err := factory.Validator(metav1.FieldValidationStrict)
	if err != nil {
		return nil, err
	}
	client, err := factory.KubernetesClientSet()
	return &cluster{factory: factory, schema: schema, client: client}, err
}

// ask does what `kubectl apply` does for a file whose objects do not exist yet.
func (c *cluster) ask(file file) verdict {
	found := verdict{ID: file.ID, Objects: []object{}}
	// kubectl reads files with a mark of byte order, and those that are not UTF-8.
	text := transform.NewReader(bytes.NewReader(file.Bytes), unicode.BOMOverride(unicode.UTF8.NewDecoder()))
	infos, err := c.factory.NewBuilder().Unstructured().Schema(c.schema).ContinueOnError().
		NamespaceParam(metav1.NamespaceDefault).DefaultNamespace().Stream(text, "file").Flatten().Do().Infos()
	if err != nil {
		found.Error = err.Error()
	} else if len(infos) == 0 {
		found.Error = "no objects passed to apply"
	}
	for _, info := range infos {
		found.Objects = append(found.Objects, c.create(info))
	}
	return found
}

func (c *cluster) create(info *resource.Info) object {
	found := object{Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name}
	refused := func(err error) object {
		found.Error = err.Error()
		if status := apierrors.APIStatus(nil); errors.As(err, &status) {
			found.Code = status.Status().Code
		}
		return found
	}
	if info.Name == "" {
		return refused(errors.New("kubectl applies no object without a name"))
	}
	helper := resource.NewHelper(info.Client, info.Mapping).DryRun(true).WithFieldManager("kubectl-client-side-apply").
		WithFieldValidation(metav1.FieldValidationStrict)
	given := info.Object
	created, err := helper.Create(info.Namespace, true, given.DeepCopyObject())
	if err != nil && apierrors.IsNotFound(err) && strings.HasPrefix(err.Error(), "namespaces ") {
		// A file does not say whether its namespace exists.
		c.makeNamespace(info.Namespace)
		created, err = helper.Create(info.Namespace, true, given.DeepCopyObject())
	}
	if err != nil && apierrors.IsAlreadyExists(err) {
		// Nor does it say what else is in the cluster.
		created, err = helper.Replace(info.Namespace, info.Name, true, given.DeepCopyObject())
	}
	if err != nil {
		return refused(err)
	}
	if accessor, err := meta.Accessor(created); err == nil {
		accessor.SetManagedFields(nil)
	}
	text, err := json.Marshal(created)
	if err != nil {
		return refused(err)
	}
	found.Object = text
	return found
}

func (c *cluster) makeNamespace(name string) {
	once, _ := c.namespaces.LoadOrStore(name, &sync.Once{})
	once.(*sync.Once).Do(func() {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		// If that is no name for one, the API server says so again for what should be in it.
		_, _ = c.client.CoreV1().Namespaces().Create(context.Background(), namespace, metav1.CreateOptions{})
	})
}
