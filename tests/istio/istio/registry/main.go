// A registry of images, in memory, with the images of an OCI layout in it.
//
//	registry ADDRESS LAYOUT REPOSITORY USER PASSWORD
//
// The layout's images are served as REPOSITORY:TAG, and as private/REPOSITORY:TAG to those who give USER and PASSWORD.
package main

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const tagAnnotation = "org.opencontainers.image.ref.name"

func guarded(images http.Handler, user, password string) http.Handler {
	equal := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		givenUser, givenPassword, given := request.BasicAuth()
		granted := given && equal(givenUser, user) && equal(givenPassword, password)
		if strings.HasPrefix(request.URL.Path, "/v2/private/") && !granted {
			response.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(response, "credentials needed", http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(response, request)
	})
}

func push(layoutPath, address, repository string, images http.Handler) error {
	index, err := layout.ImageIndexFromPath(layoutPath)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, described := range manifest.Manifests {
		image, err := index.Image(described.Digest)
		if err != nil {
			return err
		}
		for _, prefix := range []string{"", "private/"} {
			reference := fmt.Sprintf("%s/%s%s:%s", address, prefix, repository, described.Annotations[tagAnnotation])
			tag, err := name.NewTag(reference, name.Insecure)
			if err != nil {
				return err
			}
			if err := remote.Write(tag, image, remote.WithTransport(direct{images})); err != nil {
				return err
			}
		}
	}
	return nil
}

func run(address, layoutPath, repository, user, password string) error {
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if err := push(layoutPath, address, repository, images); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return http.Serve(listener, guarded(images, user, password))
}

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: registry ADDRESS LAYOUT REPOSITORY USER PASSWORD")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}
