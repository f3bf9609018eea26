//go:build tools

// Package toxiproxy pins the proxy that stands between the daemon and a server, and harms what passes.
package toxiproxy

import _ "github.com/Shopify/toxiproxy/v2/cmd/server"
