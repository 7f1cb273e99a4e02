// Above the flows: protection, rates, ended flows, and the pulse of each route.
const MINUTES = 60, STEPS = 150;
const PROTECTION = { both: "heartbeats on both legs", one: "heartbeats on one leg", probes: "TCP probes alone" };
const PULSES = ["heartbeats", "replies", "misses"];
let routes = [], seen = null, rates = { flows: null, bytes: null };
let ends = {}, pulse = {}, position = { minute: 0, step: 0 };

// --- the history, which comes as what is new ---

// A list of the last `size` numbers, of which the last belongs to `now`, gets those from `from` on.
function merge(list, size, before, from, now, values) {
	const shift = list ? Math.min(now - before, size) : size;
	const next = [...(list || []).slice(shift), ...Array(shift).fill(0)];
	for (let i = from; i <= now; i++) {
		const index = size - 1 - (now - i);
		if (index >= 0)
			next[index] = values ? values[i - from] : 0;
	}
	return next;
}

function remember(h) {
	for (const reason of new Set([...Object.keys(ends), ...Object.keys(h.ended)]))
		ends[reason] = merge(ends[reason], MINUTES, position.minute || h.minute_now, h.minute, h.minute_now, h.ended[reason]);
	for (const [name, legs] of Object.entries(h.routes)) {
		const of = pulse[name] ||= { client: {}, backend: {} };
		for (const side of SIDES)
			for (const p of PULSES)
				of[side][p] = merge(of[side][p], STEPS, position.step || h.step_now, h.step, h.step_now, legs[side][p]);
	}
	position = { minute: h.minute_now, step: h.step_now };
}

function forget() {
	ends = {};
	pulse = {};
	position = { minute: 0, step: 0 };
	seen = null;
}

// --- protection ---

function drawProtection(p) {
	const all = sum(Object.values(p.flows));
	let x = 0;
	const parts = Object.keys(PROTECTION).map(kind => {
		const width = all ? 1000 * p.flows[kind] / all : 0, part = svg("rect", { class: kind, x, width, height: 10 });
		x += width;
		return part;
	});
	if (at("bar").children.length)
		parts.forEach((part, i) => ["x", "width"].forEach(a => at("bar").children[i].setAttribute(a, part.getAttribute(a))));
	else
		at("bar").append(...parts);
	at("bar").setAttribute("aria-label", "Open flows: " + Object.entries(PROTECTION).map(([k, text]) => `${count(p.flows[k])} with ${text}`).join(", "));
	for (const [kind, name] of Object.entries(PROTECTION)) {
		const button = document.querySelector(`.share[data-kind=${kind}]`);
		show(button, el("span", { class: "swatch " + kind, "aria-hidden": "true" }), el("span", { class: "count" }, count(p.flows[kind])),
			el("span", { class: "dim" }, all ? Math.round(100 * p.flows[kind] / all) + " %" : ""), el("span", { class: "name" }, name));
	}
	const why = Object.entries(p.why_none).sort((a, b) => b[1] - a[1]).slice(0, 6);
	show(at("why"), why.length ? ["Legs without heartbeats: ", why.map(([reason, n], i) => [i ? ", " : "", reason, " ", el("b", {}, count(n))])] : "");
}

for (const kind of Object.keys(PROTECTION)) {
	const button = el("button", { type: "button", class: "share", "data-kind": kind, "aria-pressed": "false" });
	button.addEventListener("click", () => {
		at("protection").value = at("protection").value === kind ? "" : kind;
		at("protection").dispatchEvent(new Event("change", { bubbles: true }));
	});
	at("shares").append(button);
}

// --- rates ---

// Over at least one second: two events may come closely after each other.
function measure(s) {
	const seconds = seen && s.uptime_seconds - seen.uptime_seconds;
	if (seen && seconds >= 0 && seconds < .5)
		return;
	const rate = of => seen && seconds > 0 && of(s) >= of(seen) ? (of(s) - of(seen)) / seconds : null;
	rates = { flows: rate(x => x.flows_total), bytes: rate(x => both(x.bytes)) };
	seen = s;
}

const tile = (name, value, note) => el("div", { class: "card tile" }, el("div", { class: "name" }, name),
	el("div", { class: "value" }, value), el("div", { class: "note" }, note || ""));

function drawTiles(s) {
	const passed = Object.entries(s.passthrough).sort((a, b) => b[1] - a[1]);
	show(at("tiles"),
		tile("Open flows", count(s.flows_open), "limit " + count(s.max_flows)),
		tile("Accepted flows", count(s.flows_total), rates.flows === null ? "" : +rates.flows.toFixed(1) + "/s"),
		tile("Relayed", bytes(both(s.bytes)), rates.bytes === null ? "" : bytes(rates.bytes) + "/s"),
		tile("Heartbeats to clients", count(s.heartbeats.client), count(s.replies.client) + " replies"),
		tile("Heartbeats to backends", count(s.heartbeats.backend), count(s.replies.backend) + " replies"),
		sum(Object.values(s.refused)) ? tile("Refused clients", count(sum(Object.values(s.refused))),
			Object.entries(s.refused).map(([cause, n]) => cause + " " + count(n)).join(", ")) : null,
		passed.length ? tile("Passthrough flows", count(sum(passed.map(r => r[1]))),
			passed.slice(0, 3).map(([reason, n]) => reason + " " + count(n)).join(", ")) : null);
}

// --- ended flows ---

const KINDS = {		// in the order in which they are stacked
	dead: "dead sides", cut: "resets and errors", unreached: "not connected", told: "limits and operator", closed: "ordinary closes",
};
const kindOf = reason => /-fin$/.test(reason) ? "closed" : /^backend-(refused|connect-timeout|lookup)$|-tls$/.test(reason) ? "unreached" :
	/timeout|unreachable/.test(reason) ? "dead" : /reset|error/.test(reason) ? "cut" : "told";

function drawEnds() {
	const all = at("closes").checked, kinds = Object.keys(KINDS).filter(k => all || k !== "closed");
	const minutes = Object.fromEntries(kinds.map(k => [k, Array(MINUTES).fill(0)]));
	for (const [reason, list] of Object.entries(ends))
		if (minutes[kindOf(reason)])
			list.forEach((n, i) => minutes[kindOf(reason)][i] += n);
	const heights = Array.from({ length: MINUTES }, (_, i) => sum(kinds.map(k => minutes[k][i]))), most = Math.max(1, ...heights);
	const bars = [.25, .5, .75, 1].map(y => svg("path", { class: "grid", d: `M0 ${140 - 140 * y}H600` }));
	for (let i = 0; i < MINUTES; i++) {
		let y = 140;
		for (const k of kinds) {
			const height = 140 * minutes[k][i] / most;
			if (height)
				bars.push(svg("rect", { class: k, x: i * 10 + 1, y: y - height, width: 8, height: Math.max(height, 1.5) },
					svg("title", {}, `${MINUTES - 1 - i} min ago: ${count(minutes[k][i])} ${KINDS[k]}`)));
			y -= height;
		}
	}
	show(at("ends"), bars);
	at("ends").setAttribute("aria-label", "Ended flows per minute in the last hour: " +
		(kinds.filter(k => sum(minutes[k])).map(k => count(sum(minutes[k])) + " " + KINDS[k]).join(", ") || "none"));
	at("most").textContent = `${count(most)} a minute`;
	const rows = Object.entries(ends).map(([r, list]) => [r, sum(list)]).filter(([, n]) => n).sort((a, b) => b[1] - a[1]);
	const dead = sum(rows.filter(([r]) => kindOf(r) === "dead").map(r => r[1]));
	at("ended").textContent = `${count(sum(rows.map(r => r[1])))} ended, ${plural(dead, "dead side")}`;
	show(at("reasons"), rows.length ? rows.map(([reason, n]) => el("tr", {},
		el("td", {}, el("span", { class: "swatch " + kindOf(reason), "aria-hidden": "true" }), reason), el("td", {}, count(n)))) :
		el("tr", {}, el("td", { colspan: 2, class: "dim" }, "No flow has ended.")));
}
at("closes").addEventListener("change", drawEnds);

// --- routes ---

function legText(leg) {
	const heartbeats = leg.heartbeat_is_auto ? "heartbeats: by protocol" : leg.heartbeat_seconds === null ? "no heartbeats" :
		"heartbeat after " + time(leg.heartbeat_seconds) + (leg.heartbeat_kind === "auto" ? "" : " (" + leg.heartbeat_kind + ")");
	const k = leg.keepalive;
	return heartbeats + (k ? `; probes ${k.idle_seconds} s / ${k.interval_seconds} s / ${k.probes}` : "; no probes");
}

function legOfRoute(r, side) {
	const steps = pulse[r.name]?.[side] || Object.fromEntries(PULSES.map(p => [p, Array(STEPS).fill(0)]));
	const [sent, replies, misses] = PULSES.map(p => sum(steps[p]));
	const text = `${plural(sent, "heartbeat")}, ${plural(replies, "reply", "replies")}` + (misses ? `, ${misses} missed` : "");
	return el("div", { class: "leg" }, el("div", { class: "line" }, el("span", {}, side), el("span", { class: "dim" }, text)),
		strip(steps, `${side} leg, last 5 minutes: ${text}`), el("div", { class: "dim small" }, legText(r[side])));
}

function pauseText(p) {
	const left = p.seconds_left === null ? "" : " for " + time(p.seconds_left);
	return "paused" + left + (p.clients_waiting === null ? "" : `, ${plural(p.clients_waiting, "client")} of at most ${count(p.clients_limit)} waiting`);
}

function limitsText(l) {
	const then = l.when_full === "evict" ? ", then the idlest go" : "", rate = l.accept_rate;
	return [l.max_flows && plural(l.max_flows, "flow") + then, l.max_flows_per_client && plural(l.max_flows_per_client, "flow") + " a client",
		rate && `${count(rate.flows)} new ones a client in ${time(rate.seconds)}`, l.allow && "allow " + l.allow, l.deny && "deny " + l.deny]
		.filter(Boolean).join("; ");
}

function drawRoutes(protection) {
	show(at("routes"), routes.map(r => {
		const p = protection.routes[r.name] || { both: 0, one: 0, probes: 0 }, all = sum(Object.values(p));
		return el("li", { class: "card route" },
			el("div", { class: "head" }, el("h3", {}, r.name), el("span", { class: "tag" }, r.protocol),
				r.paused ? el("span", { class: "tag wait" }, pauseText(r.paused)) : "", el("span", { class: "dim" }, plural(all, "flow") +
				(all ? `: ${count(p.both)} both legs, ${count(p.one)} one, ${count(p.probes)} probes alone` : ""))),
			el("div", { class: "way" }, r.listen.join(", ") + " → " + r.backends.map(b => b + (r.backends_down.includes(b) ? " (down)" : "")).join(", ")),
			limitsText(r.limits) ? el("div", { class: "dim small" }, "limits: " + limitsText(r.limits)) : "",
			SIDES.map(side => legOfRoute(r, side)));
	}));
}

function offerRoutes() {
	const chosen = at("route").value;
	at("route").replaceChildren(new Option("all", ""), ...routes.map(r => el("option", { value: r.name }, r.name)));
	at("route").value = routes.some(r => r.name === chosen) ? chosen : "";
}

// The result of the last reload: only one that failed asks for attention.
function drawLoad(load) {
	const when = s => new Date(s * 1000).toLocaleString("sv-SE");
	show(at("load"), load.last_failed ? [el("span", { class: "tag wait" }, "the last reload failed"), el("span", { class: "dim" },
		` ${when(load.failed_at)}: see the log; the settings of ${when(load.loaded_at)} are in use`)] :
		el("span", { class: "dim" }, `settings read ${when(load.loaded_at)}` + (load.moving_flows ? ", open flows are being moved to them" : "")));
}

function drawOverview(o) {
	const s = o.summary;
	if (seen && s.uptime_seconds < seen.uptime_seconds)
		forget();
	measure(s);
	remember(o.history);
	if (o.routes) {
		routes = o.routes;
		offerRoutes();
	}
	document.title = count(s.flows_open) + " flows · stent";
	at("state").textContent = s.draining ? "draining" : "running";
	at("state").className = s.draining ? "pill wait" : "pill";
	at("about").textContent = `version ${s.version} · up ${time(s.uptime_seconds)} · ` + plural(s.flows_by_worker.length, "worker") +
		(s.settings ? " · " + s.settings : "");
	drawLoad(s.load);
	at("open").textContent = plural(s.flows_open, "open flow");
	drawProtection(o.protection);
	drawTiles(s);
	drawEnds();
	drawRoutes(o.protection);
}
