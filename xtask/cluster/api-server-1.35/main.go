// Command kube-apiserver is the API server of the next version of Kubernetes, which takes the node of this one: tests show
// what that version asks for in addition.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	// The component's name is the first argument, as for the binary that holds all components.
	if len(os.Args) > 1 && os.Args[1] == "kube-apiserver" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
