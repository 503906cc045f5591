package cluster

import (
	"context"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StoreConfigMap sets the data of the ConfigMap kube-system/NAME, and creates it if it does not exist.
func (a *API) StoreConfigMap(ctx context.Context, name string, data map[string]string) error {
	maps := a.Client.CoreV1().ConfigMaps("kube-system")
	cm := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name}, Data: data}
	_, err := maps.Update(ctx, cm, meta.UpdateOptions{})
	if errors.IsNotFound(err) {
		_, err = maps.Create(ctx, cm, meta.CreateOptions{})
	}
	return err
}

// PutConfigMap is StoreConfigMap, and ends the test if that fails.
func (a *API) PutConfigMap(t testing.TB, name string, data map[string]string) {
	t.Helper()
	if err := a.StoreConfigMap(context.Background(), name, data); err != nil {
		t.Fatal(err)
	}
}

// RemoveConfigMap deletes the ConfigMap kube-system/NAME, if it exists.
func (a *API) RemoveConfigMap(t testing.TB, name string) {
	t.Helper()
	err := a.Client.CoreV1().ConfigMaps("kube-system").Delete(context.Background(), name, meta.DeleteOptions{})
	if err != nil && !errors.IsNotFound(err) {
		t.Fatal(err)
	}
}

// GrantConfigMap allows the account kube-system/coredns to follow the ConfigMap kube-system/NAME, which the manifests
// do not grant.
func (a *API) GrantConfigMap(t testing.TB, name string) {
	t.Helper()
	a.Apply(t, strings.ReplaceAll(configMapRole, "NAME", name))
}

// RevokeConfigMap undoes GrantConfigMap.
func (a *API) RevokeConfigMap(t testing.TB, name string) {
	t.Helper()
	a.Delete(t, strings.ReplaceAll(configMapRole, "NAME", name))
}

const configMapRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: NAME, namespace: kube-system}
rules:
- {apiGroups: [""], resources: [configmaps], resourceNames: [NAME], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: NAME, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: NAME}
subjects:
- {kind: ServiceAccount, name: coredns, namespace: kube-system}
`
