package faults

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.cert, a.key = sign(t, a.cert, a)
	return a
}

// sign makes a certificate from template, signed by a, or self-signed if a has no key yet.
func sign(t *testing.T, template *x509.Certificate, a *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, by := template, key
	if a.key != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// server makes a certificate for a server on loopback.
func (a *authority) server(t *testing.T, serial int64) *tls.Certificate {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// tokenOf returns a token of the ServiceAccount that is valid as long as the Secret exists.
func tokenOf(t *testing.T, secret string) string {
	t.Helper()
	client := api(t).Client.CoreV1()
	s, err := client.Secrets("kube-system").Create(t.Context(), &core.Secret{ObjectMeta: meta.ObjectMeta{Name: secret}}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Secrets("kube-system").Delete(context.Background(), secret, meta.DeleteOptions{}) })
	req, err := client.ServiceAccounts("kube-system").CreateToken(t.Context(), "coredns", &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{BoundObjectRef: &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Secret", Name: secret, UID: s.UID}},
	}, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return req.Status.Token
}

// revoke revokes the token of a Secret and returns when the API server refuses it: the API server caches tokens for
// ten seconds.
func revoke(t *testing.T, secret, token string) {
	t.Helper()
	if err := api(t).Client.CoreV1().Secrets("kube-system").Delete(t.Context(), secret, meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: api(t).URL, BearerToken: token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		var code int
		client.CoreV1().RESTClient().Get().AbsPath("/version").Do(t.Context()).StatusCode(&code)
		return code == 401, "the old token to be refused"
	})
}

// The API server returns with another certificate and requires another token.
func TestCredentials(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	account(t) // the roles
	dir, ca := t.TempDir(), newAuthority(t)
	tokenFile, caFile, kubeconfig := filepath.Join(dir, "token"), filepath.Join(dir, "ca.crt"), filepath.Join(dir, "kubeconfig")
	first := tokenOf(t, "first")
	cluster.WriteFile(t, tokenFile, first)
	cluster.WriteFile(t, caFile, ca.pem())
	proxy := api(t).Proxy(t)
	proxy.Certificate = ca.server(t, 2)
	proxy.Start(t)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: proxy.URL, CertificateAuthority: caFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {TokenFile: tokenFile}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster.Run(t, coredns(t), corefileOf(kubeconfig))
	a := ask(t, c.Addr, tr)
	a.heal(t)

	a.fault(t, "the API server has a new certificate", proxy.Stop, func() {
		proxy.Certificate = ca.server(t, 3)
		proxy.Start(t)
	})
	a.fault(t, "it refuses the old token, the new one comes later", func() {
		proxy.Stop()
		revoke(t, "first", first)
		proxy.Start(t)
	}, func() { cluster.WriteFile(t, tokenFile, tokenOf(t, "second")) })

	// client-go reads the file of authorities every five minutes, so this needs long faults.
	if lasts < 30*time.Second {
		return
	}
	a.counted(t, "it has a certificate of a new authority", func() time.Duration {
		tr.hold()
		defer tr.release()
		proxy.Stop()
		other := newAuthority(t)
		proxy.Certificate = other.server(t, 4)
		cluster.WriteFile(t, caFile, ca.pem()+other.pem())
		proxy.Start(t)
		before := tr.newest()
		return cluster.Eventually(t, 6*time.Minute, func() (bool, string) {
			return int(a.seen.Load()) > before, "the new authority to be trusted"
		})
	})
}
