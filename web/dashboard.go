package web

import (
	"embed"
	"net/http"
)

//go:embed dashboard/*.html dashboard/*.css dashboard/*.js dashboard/*.svg
var dashboard embed.FS

// dashboardPolicy lets the page load what is here, and ask this server only.
const dashboardPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Dashboard serves the live view of a cluster for operators, a page that a status node serves on its operations listener. The
// page reads /api/v1; it has no data and no rights of its own.
func Dashboard() http.Handler {
	return newPage(dashboardPolicy, dashboard, "dashboard")
}
