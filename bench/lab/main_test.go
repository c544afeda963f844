package lab

import (
	"flag"
	"os"
	"testing"

	"parley/lab/launchtest"
)

// TestMain runs four tests in parallel whatever -parallel says, because tests with clusters mostly wait: three, and one that
// waits for its turn.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(launchtest.Main(m))
}
