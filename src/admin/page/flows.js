// The flows: what is asked for, the table, and one flow in detail. The server filters, sorts and cuts.
const COLUMNS = [	// sort key, heading, class, begins with the largest
	["age", "Flow", "", true], ["route", "Route", "", false], ["protection", "Protection", "", true], ["client", "Client", "", false],
	["backend", "Backend", "", false], ["idle", "Idle", "number", true], ["bytes", "Bytes", "number", true],
	["heartbeats", "Heartbeats", "number", true], ["rtt", "Round trip", "number", true],
];
const FLOW_STEPS = 120;
const query = { q: "", route: "", protection: "", sort: "age", order: "down", offset: 0, limit: 50, id: 0 };
let list = null, detail = null;

// --- the table ---

function heads() {
	at("heads").replaceChildren(...COLUMNS.map(([key, text, cls, down]) => {
		const active = query.sort === key, button = el("button", { type: "button" }, text + (active ? (query.order === "down" ? " ↓" : " ↑") : ""));
		button.addEventListener("click", () => {
			sortBy(key, active ? (query.order === "down" ? "up" : "down") : down ? "down" : "up");
			at("heads").querySelector("[aria-sort] button").focus();
		});
		return el("th", { scope: "col", class: cls, "aria-sort": active ? (query.order === "down" ? "descending" : "ascending") : "" }, button);
	}));
	at("sort").value = query.sort;
}

function sortBy(key, order) {
	Object.assign(query, { sort: key, order, offset: 0 });
	heads();
	ask();
}

const protectionOf = f => ["probes alone", "one leg", "both legs"][SIDES.filter(side => !f[side].why_none).length];
const PROTECTION_KINDS = { "both legs": "both", "one leg": "one", "probes alone": "probes" };
const v = (name, attributes, ...children) => ({ name, attributes, children });
const legCell = (leg, name) => [v("div", { class: "nowrap" }, v("span", dotOf(leg)), leg.address), v("div", { class: "dim small" },
	signText(leg) + (name && name !== leg.address ? " · " + name : ""))];
const why = f => [...new Set(SIDES.map(side => f[side].why_none).filter(Boolean))].join("; ");
const slower = f => Math.max(...SIDES.map(side => f[side].rtt_ms ?? -1));

function cells(f) {
	const protection = protectionOf(f);
	return [
		[v("button", { type: "button", class: "id", "data-flow": f.id, "aria-haspopup": "dialog", "aria-label": "Flow " + f.id }, "#" + f.id),
			v("div", { class: "dim small nowrap" }, time(f.age_seconds))],
		[v("div", { class: "strong" }, f.route), v("span", { class: "tag" }, f.protocol), f.state === "open" ? "" : [" ", v("span", { class: "tag wait" }, f.state)]],
		[v("div", { class: "nowrap" }, v("span", { class: "swatch " + PROTECTION_KINDS[protection], "aria-hidden": "true" }), " ", protection),
			v("div", { class: "dim small" }, why(f))],
		legCell(f.client), legCell(f.backend, f.backend_name),
		time(Math.min(f.client.idle_seconds, f.backend.idle_seconds)),
		bytes(f.client.bytes + f.backend.bytes),
		[count(f.client.heartbeats + f.backend.heartbeats), v("div", { class: "dim small" }, plural(f.client.replies + f.backend.replies, "reply", "replies"))],
		rtt(slower(f) < 0 ? null : slower(f)),
	];
}

// What an element will be; made only if it differs from what is there: at 200 rows a second that is what stays smooth.
function build(c) {
	return Array.isArray(c) ? c.map(build) : c?.name ? el(c.name, c.attributes, build(c.children)) : c;
}

function drawRows(flows) {
	const rows = at("body").children, focused = document.activeElement?.dataset?.flow;
	flows.forEach((f, i) => {
		if (!rows[i])
			at("body").append(el("tr", {}, COLUMNS.map(([, text, cls]) => el("td", { class: cls, "data-name": text }, el("div")))));
		rows[i].dataset.id = f.id;
		cells(f).forEach((children, k) => {
			const cell = rows[i].children[k].firstChild, key = JSON.stringify(children);
			if (cell.key !== key) {
				cell.key = key;
				cell.replaceChildren();
				fill(cell, {}, [build(children)]);
			}
		});
	});
	while (rows.length > flows.length)
		at("body").lastChild.remove();
	if (focused && document.activeElement?.dataset?.flow !== focused)
		at("body").querySelector(`button[data-flow="${focused}"]`)?.focus({ preventScroll: true });
}

function drawFlows(data) {
	list = data;
	if (getSelection().isCollapsed || !at("list").contains(getSelection().anchorNode))	// do not pull away what is being copied
		drawRows(data.flows);
	const first = data.offset + 1, last = data.offset + data.flows.length, filtered = query.q || query.route || query.protection;
	const shown = !data.total ? "" : filtered ? `${count(data.matched)} of ${count(data.total)} match` : count(data.total) + " open";
	if (at("shown").textContent !== shown)
		at("shown").textContent = shown;
	at("empty").hidden = data.flows.length > 0;
	at("empty").textContent = data.total ? "No flow matches." : "No open flows.";
	at("page").textContent = data.matched ? `${count(first)}–${count(last)} of ${count(data.matched)}` : "";
	at("first").disabled = at("before").disabled = data.offset === 0;
	at("after").disabled = at("last").disabled = last >= data.matched;
	query.offset = data.offset;
	if (query.id)
		drawDetail(data.flow);
}

function page(offset) {
	query.offset = Math.max(0, offset);
	ask();
	at("flows").scrollIntoView({ block: "nearest" });
}

at("first").addEventListener("click", () => page(0));
at("before").addEventListener("click", () => page(query.offset - query.limit));
at("after").addEventListener("click", () => page(query.offset + query.limit));
at("last").addEventListener("click", () => page(Math.floor((list.matched - 1) / query.limit) * query.limit));

let typing = 0;
at("text").addEventListener("input", () => {
	clearTimeout(typing);
	typing = setTimeout(read, 250);
});
at("search").addEventListener("change", read);
at("search").addEventListener("submit", e => {
	e.preventDefault();
	read();
});

function read() {
	clearTimeout(typing);
	const asked = { q: at("text").value.trim(), route: at("route").value, protection: at("protection").value, limit: +at("rows").value };
	for (const button of document.querySelectorAll(".share"))
		button.setAttribute("aria-pressed", String(button.dataset.kind === asked.protection));
	if (at("sort").value !== query.sort)
		return sortBy(at("sort").value, COLUMNS.find(c => c[0] === at("sort").value)[3] ? "down" : "up");
	if (Object.entries(asked).every(([k, v]) => query[k] === v))
		return;
	Object.assign(query, asked, { offset: 0 });
	ask();
}

// --- one flow ---

const tlsText = leg => leg.tls ? [leg.tls, leg.cipher, leg.resumed ? "resumed" : ""].filter(Boolean).join(", ") : "no";

function facts(f, side) {
	const leg = f[side], peer = f.client_peer && "via " + f.client_peer;
	const name = side === "client" ? peer : f.backend_name !== leg.address ? f.backend_name : null;
	return Object.entries({
		Address: leg.address + (name ? ` (${name})` : ""), State: signText(leg), Idle: time(leg.idle_seconds), Bytes: bytes(leg.bytes),
		Heartbeats: heartbeatsText(leg), Missed: leg.misses ? `${leg.misses} of ${leg.misses_max || "any number"}` : "none",
		Probes: leg.probes ? `${leg.probes} of ${leg.probes_max} unanswered` : "none unanswered",
		"Round trip": `${rtt(leg.rtt_ms)}; smoothed ${rtt(leg.smoothed_rtt_ms)}; worst ${rtt(leg.worst_rtt_ms)}`, TLS: tlsText(leg),
	}).map(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]);
}

// The server keeps no history of a flow: its strip begins when it is opened.
function record(f) {
	for (const side of SIDES) {
		const before = detail.last?.[side], now = f[side], of = detail.steps[side];
		const added = { heartbeats: before ? now.heartbeats - before.heartbeats : 0, replies: before ? now.replies - before.replies : 0,
			misses: before && now.misses > before.misses ? 1 : 0 };
		for (const p of PULSES)
			of[p] = [...of[p].slice(1), Math.max(0, added[p])];
	}
	detail.last = f;
}

function drawDetail(f) {
	if (!f && !detail.last) {
		at("detail-state").textContent = "not found";
		return show(at("detail-body"), el("p", { class: "empty" }, "There is no such flow."));
	}
	if (!f) {
		at("detail-state").textContent = "ended";
		at("detail-state").className = "tag wait";
		return;
	}
	record(f);
	at("detail-title").textContent = `Flow ${f.id} of ${f.route}`;
	at("detail-state").textContent = f.state;
	at("detail-state").className = f.state === "open" ? "tag" : "tag wait";
	show(at("detail-body"), el("p", { class: "empty" }, `${f.protocol}, open for ${time(f.age_seconds)}, ${protectionOf(f) === "probes alone" ?
		"TCP probes alone" : "heartbeats on " + protectionOf(f)}. The strips begin when the flow is opened here.`),
		el("div", { class: "legs" }, SIDES.map(side => el("div", {}, el("h3", {}, side[0].toUpperCase() + side.slice(1) + " leg"),
			strip(detail.steps[side], `${side} leg: heartbeats and replies since this was opened`), el("dl", {}, facts(f, side))))));
}

function open(id) {
	query.id = id;
	detail = { last: null, steps: Object.fromEntries(SIDES.map(side => [side, Object.fromEntries(PULSES.map(p => [p, Array(FLOW_STEPS).fill(0)]))])) };
	at("detail-title").textContent = "Flow " + id;
	const known = list.flows.find(f => f.id === id);
	if (known)
		drawDetail(known);
	at("detail").showModal();
	ask();
}

at("body").addEventListener("click", e => {
	const row = e.target.closest("tr");
	if (row && getSelection().isCollapsed)
		open(+row.dataset.id);
});
at("detail").addEventListener("close", () => {
	const id = query.id;
	query.id = 0;
	ask();
	at("body").querySelector(`button[data-flow="${id}"]`)?.focus();
});
at("detail").addEventListener("click", e => e.target === at("detail") && at("detail").close());
at("close").addEventListener("click", () => at("detail").close());

if (matchMedia("(max-width: 700px)").matches)
	query.limit = +(at("rows").value = "25");
at("sort").append(...COLUMNS.map(([key, text]) => el("option", { value: key }, text)));
heads();
