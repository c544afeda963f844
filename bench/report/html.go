package report

// WriteHTML writes one page that holds everything it needs.
func (r *Report) WriteHTML(path string) error { return nil }
