package launch

import "context"

// ProgramOptions describe a program that is no server of a Cluster, such as one of a load generator's workers.
type ProgramOptions struct {
	Name string // in logs and messages
	Path string // of the binary
	Args []string
	// LogPath takes its output; its directory must exist.
	LogPath string
	// Ready is asked until it returns nil; nil itself: the program is ready once it runs.
	Ready func(ctx context.Context) error
}

// NewProgram returns a Proc that was not started yet. The program dies with this process, like the servers of a Cluster.
func NewProgram(o ProgramOptions) *Proc {
	return newProc(o.Name, o.Path, o.LogPath, o.Ready, o.Args...)
}
