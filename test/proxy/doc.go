// Package proxy tests the examples in deploy/proxy: real proxies in front of a cluster, as far as they are installed.
package proxy
