// Package follow reads the whole Corefile from a ConfigMap, live: at the start, and with each edit of it.
package follow

import (
	"errors"
	"flag"
	"fmt"
	"path"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubehosts/kubehosts/plugin/source"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// Flags are the flags of the command that this package adds to CoreDNS's own.
type Flags struct {
	configMap, lastGood keyRef
	imports             importRefs
}

// keyRef names a key of a ConfigMap. It implements flag.Value.
type keyRef struct{ namespace, name, key string }

// importRef is a folder from which the keys of a ConfigMap are imported.
type importRef struct{ namespace, name, dir string }

type importRefs []importRef

// Register adds -configmap, -last-good and -import to the flags.
func Register(flags *flag.FlagSet) *Flags {
	f := &Flags{}
	flags.Var(&f.configMap, "configmap", "`[NAMESPACE/]NAME[:KEY]` of the ConfigMap that is the Corefile, live; -conf is for a start without the API server")
	flags.Var(&f.lastGood, "last-good", "`[NAMESPACE/]NAME[:KEY]` of the ConfigMap in which the last good Corefile is stored, for starts while that of -configmap is wrong")
	flags.Var(&f.imports, "import", "`NAMESPACE/NAME=DIR`: import DIR/PATTERN takes keys of that ConfigMap, live; may be repeated")
	return f
}

// Check reports whether to follow a ConfigMap. The error is for the user of the command.
func (f *Flags) Check(conf string) (follows bool, err error) {
	switch {
	case f.configMap.name == "" && (f.lastGood.name != "" || len(f.imports) > 0):
		return false, errors.New("-last-good and -import need -configmap")
	case f.configMap.name == "":
		return false, nil
	case conf == "stdin":
		return false, errors.New("-configmap does not work with -conf stdin: name a file")
	case f.lastGood == f.configMap:
		return false, errors.New("-last-good must name another key than -configmap")
	}
	return true, nil
}

func (r *keyRef) String() string {
	if r == nil || r.name == "" {
		return ""
	}
	return r.namespace + "/" + r.name + ":" + r.key
}

// Set implements flag.Value.
func (r *keyRef) Set(s string) error {
	name, key, written := strings.Cut(s, ":")
	if !written {
		key = stanza.DefaultConfigMapKey
	}
	if problems := validation.IsConfigMapKey(key); len(problems) > 0 {
		return fmt.Errorf("key '%s': %s", key, problems[0])
	}
	namespace, name, err := objectName(name)
	if err != nil {
		return err
	}
	*r = keyRef{namespace, name, key}
	return nil
}

// objectName splits [NAMESPACE/]NAME. The default namespace is that of the pod.
func objectName(s string) (namespace, name string, err error) {
	namespace, name, written := strings.Cut(s, "/")
	if !written {
		namespace, name = source.InClusterNamespace(), s
	}
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return "", "", fmt.Errorf("namespace '%s': %s", namespace, problems[0])
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return "", "", fmt.Errorf("name '%s': %s", name, problems[0])
	}
	return namespace, name, nil
}

func (r *importRefs) String() string {
	var all []string
	if r != nil {
		for _, i := range *r {
			all = append(all, i.namespace+"/"+i.name+"="+i.dir)
		}
	}
	return strings.Join(all, " ")
}

// maxImports limits the ConfigMaps for imports. There is a watch for each.
const maxImports = 20

// Set implements flag.Value.
func (r *importRefs) Set(s string) error {
	of, dir, ok := strings.Cut(s, "=")
	if !ok || dir == "" {
		return errors.New("expecting NAMESPACE/NAME=DIR")
	}
	namespace, name, err := objectName(of)
	if err != nil {
		return err
	}
	dir = path.Clean(dir)
	for _, other := range *r {
		if other.dir == dir {
			return fmt.Errorf("folder %s is named twice", dir)
		}
	}
	if len(*r) == maxImports {
		return fmt.Errorf("more than %d", maxImports)
	}
	*r = append(*r, importRef{namespace, name, dir})
	return nil
}
