package main

// edit is how an edit of the ConfigMap takes effect, with -configmap.
var edit = diagram{
	title: "How an edit of the ConfigMap takes effect",
	description: "An edit reaches follow through a watch. A change of only kubehosts stanzas becomes a new View. Any other change is checked " +
		"by coredns check and restarts the server blocks. An invalid text changes nothing. A text that has been active for 30 seconds " +
		"is stored for the next start.",
	width: 830, height: 472,
	boxes: []box{
		{16, 30, 110, 62, "an edit", []string{"kubectl, GitOps"}, plain},
		{190, 30, 160, 62, "API server", []string{"ConfigMap", "kube-system/coredns"}, plain},
		{416, 30, 104, 62, "source", []string{"follows the", "ConfigMap"}, ours},
		{576, 30, 238, 62, "follow", []string{"reads the Corefile and its imports,", "compares it with the one served"}, ours},

		{16, 178, 236, 62, "live", []string{"stanza to Config to View; opens", "new files, lists new objects"}, ours},
		{578, 178, 236, 62, "check", []string{"another process tries the setup", "of each plugin"}, ours},

		{16, 290, 236, 78, "the new View serves", []string{"by one atomic store; nothing", "restarts, the caches stay"}, good},
		{296, 290, 236, 78, "the last good one serves on", []string{"the log, an Event and a metric", "report the key and the line;", "the edit is tried again"}, bad},
		{578, 290, 236, 78, "server blocks restart", []string{"sockets, watches and tables stay;", "no query is lost"}, good},

		{16, 408, 798, 48, "ConfigMap of -last-good", []string{"the last good Corefile, from which a process starts if the newest one is wrong"}, plain},
	},
	arrows: []arrow{
		{plain, []point{{126, 61}, {190, 61}}},
		{plain, []point{{350, 61}, {416, 61}}},
		{ours, []point{{520, 61}, {576, 61}}},
		{ours, []point{{616, 92}, {616, 112}, {134, 112}, {134, 178}}},
		{bad, []point{{648, 92}, {648, 132}, {414, 132}, {414, 290}}},
		{ours, []point{{696, 92}, {696, 178}}},
		{bad, []point{{252, 209}, {342, 209}, {342, 290}}},
		{bad, []point{{578, 209}, {486, 209}, {486, 290}}},
		{good, []point{{134, 240}, {134, 290}}},
		{good, []point{{696, 240}, {696, 290}}},
		{bad, []point{{578, 329}, {532, 329}}},
		{plain, []point{{134, 368}, {134, 408}}},
		{plain, []point{{696, 368}, {696, 408}}},
	},
	labels: []label{
		{158, 53, "middle", "stored", quiet},
		{383, 53, "middle", "watch", quiet},
		{142, 160, "start", "kubehosts stanzas alone changed", quiet},
		{422, 160, "start", "no valid Corefile", quiet},
		{704, 124, "start", "anything else", quiet},
		{704, 140, "start", "changed, or a", quiet},
		{704, 156, "start", "stanza is wrong", quiet},
		{297, 201, "middle", "an error", quiet},
		{532, 201, "middle", "an error", quiet},
		{555, 321, "middle", "fails", quiet},
		{142, 393, "start", "30 s later, if ready", quiet},
		{704, 393, "start", "30 s later, if ready", quiet},
	},
}
