package lab

import (
	"flag"
	"os"
	"testing"

	"parley/lab/launchtest"
)

// TestMain runs three tests in parallel whatever -parallel says, because tests with clusters mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(launchtest.Main(m))
}
