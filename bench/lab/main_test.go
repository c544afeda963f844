package lab

import (
	"flag"
	"os"
	"testing"

	"parley/lab/launchtest"
)

// TestMain runs three tests at once whatever -parallel says: those with clusters wait most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
	os.Exit(launchtest.Main(m))
}
