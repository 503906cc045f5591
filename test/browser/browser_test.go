package browser

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// screenshots is the folder of the run.
const screenshots = "../bin/screenshots"

// tab is a page of the browser.
type tab struct {
	ctx context.Context
	mu  sync.Mutex
	bad []string // errors reported by the browser
}

// open starts Chromium, which ends with the test.
func open(t *testing.T) *tab {
	t.Helper()
	// Chromium's sandbox needs user namespaces, which test machines may not have; the page is our own.
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{ctx: ctx}
	console := chromedp.Console(ctx)
	if err := chromedp.Do(ctx); err != nil { // starts it, without a time limit
		t.Fatal(err)
	}
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.bad = append(b.bad, m.String())
			b.mu.Unlock()
		}
	}()
	return b
}

// run runs an action in the browser, for 20 seconds at most.
func run[T any](t *testing.T, b *tab, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, bound)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// do runs steps in the browser.
func (b *tab) do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	run(t, b, chromedp.Steps(steps...))
}

// eval returns the result of a script in the page.
func eval[T any](t *testing.T, b *tab, script string) T {
	t.Helper()
	return run(t, b, chromedp.Evaluate[T](script))
}

// call sends a command of the DevTools protocol.
func call[P, R any](t *testing.T, b *tab, command cdp.Command[P, R], params P) R {
	t.Helper()
	return run(t, b, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

// look is a way to display the page.
type look struct {
	name          string
	width, height int64
	scheme        string
	phone         bool
}

var looks = []look{
	{"light", 1100, 900, "light", false},
	{"dark", 1100, 900, "dark", false},
	{"phone-light", 375, 812, "light", true},
	{"phone-dark", 375, 812, "dark", true},
}

// shoot displays the open page in all ways, takes a screenshot of each, and checks what a person would notice: nothing
// overflows the page, and all text has enough contrast with its background (WCAG 2.2, success criteria 1.4.10 and
// 1.4.3).
func (b *tab) shoot(t *testing.T, name string) {
	t.Helper()
	for _, l := range looks {
		call(t, b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.phone})
		call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}},
		})
		if over := eval[int](t, b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
			t.Errorf("%s, %s: the page is %d pixels too wide", name, l.name, over)
		}
		for _, text := range eval[[]string](t, b, pale) {
			t.Errorf("%s, %s: too little contrast: %s", name, l.name, text)
		}
		picture := run(t, b, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(screenshots, name+"-"+l.name+".png"), picture, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// pale lists the texts whose contrast with their background is less than 4.5.
const pale = `(() => {
	const rgb = color => color.match(/[\d.]+/g).map(Number);
	const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] === 1) return c;
		}
		return [255, 255, 255];
	};
	const all = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
		if (!text || !e.checkVisibility()) continue;
		const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) all.push(text + ": " + ((a + 0.05) / (b + 0.05)).toFixed(2));
	}
	return all;
})()`

// named checks that all controls and landmarks have a name for screen readers.
func (b *tab) named(t *testing.T) {
	t.Helper()
	nodes := call(t, b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	roles := make(map[string]int)
	for _, n := range nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role, name := value(n.Role), value(n.Name)
		roles[role]++
		switch role {
		case "link", "button", "textbox", "combobox", "navigation", "search", "region", "heading", "columnheader", "DisclosureTriangle":
			if strings.TrimSpace(name) == "" {
				t.Errorf("a %s without a name", role)
			}
		}
	}
	for _, role := range []string{"main", "banner", "contentinfo", "navigation", "search", "heading", "button"} {
		if roles[role] == 0 {
			t.Errorf("no %s; there are %v", role, roles)
		}
	}
	if lang := eval[string](t, b, "document.documentElement.lang"); lang != "en" {
		t.Errorf("the language is %q", lang)
	}
	if n := eval[int](t, b, "document.querySelectorAll('h1').length"); n != 1 {
		t.Errorf("%d headings of the first level", n)
	}
}

func value(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}

// text is the visible text of the page.
func (b *tab) text(t *testing.T) string {
	t.Helper()
	return eval[string](t, b, "document.body.innerText")
}

// has checks that the page contains these texts.
func (b *tab) has(t *testing.T, words ...string) {
	t.Helper()
	text := b.text(t)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the page has no %q:\n%s", w, text)
		}
	}
}

// focused is the element with the keyboard focus.
func (b *tab) focused(t *testing.T) string {
	t.Helper()
	return eval[string](t, b, "document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName")
}

// The page of a server with problems shows what is wrong, is readable in both colour schemes and on a phone, works with
// the keyboard alone, has names for screen readers, and needs no script.
func TestPage(t *testing.T) {
	if err := os.MkdirAll(screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	w := start(t)
	b := open(t)
	call(t, b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})

	// The folder of the snapshot does not exist, so there is one problem from the start.
	cluster.WriteFile(t, w.Path("corp.hosts"), "192.0.2.20  registry.corp.example\n")
	w.problems(t, 1)
	if err := os.Mkdir(w.Path("missing"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.problems(t, 0)
	b.do(t, chromedp.Navigate(w.page))
	b.has(t, "All is well", "of ConfigMap kube-system/coredns, applied", "connected", "ttl 20")
	b.shoot(t, "well")

	// Now there are many problems.
	w.edit(t, "    ttl 17\n    hosts {\n        192.0.2.99 shop.corp.example\n    }\n")
	w.edit(t, "    ttl 17s\n")
	cluster.WriteFile(t, w.Path("corp.hosts"), corpHosts)
	w.problems(t, 2)
	w.proxy.Stop()
	w.problems(t, 3)
	b.do(t, chromedp.Navigate(w.page))
	b.has(t, "3 things to look at", "has not replied since", "is refused, and the last good one serves",
		`line 3: "192.0.2.300" is not an IP address; line left out`, `line 5: "files.corp.example" is not an IP address; line left out`,
		"strconv.Atoi", "192.0.2.99 shop.corp.example", "Service", "EndpointSlice", "applied")
	b.named(t)
	b.shoot(t, "trouble")

	// With the keyboard: past the link that skips the head and the link to this page, into the form, and
	// submit it.
	w.proxy.Start(t)
	w.problems(t, 2)
	b.do(t, chromedp.Navigate(w.page))
	var way []string
	for range 3 {
		b.do(t, chromedp.KeyEvent(kb.Tab))
		way = append(way, b.focused(t))
	}
	if want := []string{"Skip to the content", "Status", "name"}; !slices.Equal(way, want) {
		t.Errorf("the keyboard leads to %q, want %q", way, want)
	}
	if outline := eval[string](t, b, "getComputedStyle(document.activeElement).outlineStyle"); outline != "solid" {
		t.Errorf("what has the focus has the outline %q", outline)
	}
	b.do(t, chromedp.KeyEvent("queue.shop"+kb.Enter), chromedp.WaitVisible(chromedp.CSS(".words")))
	b.has(t, "queue.shop.svc.cluster.local. A", "Service shop/queue has no ready endpoint",
		"not ready: 2 endpoints: pod queue-0 at 10.244.2.5, pod queue-1 at 10.244.2.6", "NXDOMAIN", "the ConfigMap's newest one is refused")
	b.named(t)
	b.shoot(t, "denied")

	b.do(t, chromedp.Navigate(w.page+"/explain?name=web.shop&type=A"), chromedp.WaitVisible(chromedp.CSS(".words")))
	b.has(t, "the first that exists", "shop/web, ClusterIP, resourceVersion ", "NOERROR 17 s web.shop.svc.cluster.local. A 10.96.7.10")
	b.shoot(t, "answered")

	b.do(t, chromedp.Navigate(w.page+"/explain?name=web..shop"), chromedp.WaitVisible(chromedp.CSS("[role=alert]")))
	b.has(t, "That can't be explained", "is not a domain name")

	b.mu.Lock()
	defer b.mu.Unlock()
	for _, bad := range b.bad {
		if !strings.Contains(bad, "/favicon.ico") && !strings.Contains(bad, "400 (Bad Request)") { // the test requested these
			t.Errorf("the browser complains: %s", bad)
		}
	}
}
