//go:build tools

// Package contour pins the Gateway API controller whose data plane is Envoy, and the CRDs of the targets.
package contour

import (
	_ "github.com/projectcontour/contour/cmd/contour"
)
