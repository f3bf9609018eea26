//go:build tools

// Package nodes pins the servers that build together: etcd, kwok and the newest nats-server.
package nodes

import (
	_ "github.com/nats-io/nats-server/v2"
	_ "go.etcd.io/etcd/server/v3"
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
