// Texts and elements. Every text goes in as a text node: what a peer or a settings file says is never read as HTML.
const SIDES = ["client", "backend"], SVG = "http://www.w3.org/2000/svg";
const at = id => document.getElementById(id);

function fill(node, attributes, children) {
	for (const [key, value] of Object.entries(attributes || {}))
		if (value !== undefined && value !== "")
			node.setAttribute(key, value);
	node.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== ""));
	return node;
}
const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const count = n => n.toLocaleString("en-US");
const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many || one + "s");
const sum = list => list.reduce((a, b) => a + b, 0);
const both = o => o.client + o.backend;

function bytes(n) {
	const units = ["B", "kB", "MB", "GB", "TB", "PB"];
	let i = 0;
	for (; n >= 1000 && i < units.length - 1; i++)
		n /= 1000;
	return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

function time(s) {
	if (s === null)
		return "off";
	if (s < 10)
		return +s.toFixed(1) + " s";
	if (s < 120)
		return Math.round(s) + " s";
	const m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
	return h < 2 ? m + " min" : d < 2 ? h + " h " + m % 60 + " min" : d + " d " + h % 24 + " h";
}

const rtt = ms => ms === null ? "–" : ms < .01 ? "< 0.01 ms" : (ms < 10 ? ms.toFixed(2) : Math.round(ms)) + " ms";

// When a side last gave a sign of life (bytes, a reply, an acknowledgement), or which ping or probe in a row is unanswered.
const countOf = (what, n, most) => what + " " + n + (most ? " of " + most : "");
const signText = leg => ({
	alive: () => "alive " + time(leg.last_sign_seconds) + " ago",
	probing: () => leg.misses ? countOf("pinging", leg.misses + 1, leg.misses_max) : countOf("probing", leg.probes, leg.probes_max),
	silent: () => "silent for " + time(leg.last_sign_seconds),
	closed: () => "half-closed",
}[leg.verdict] || (() => leg.verdict))();
const DOTS = { alive: " good", probing: " wait", silent: " wait", dead: " bad" };
const dotOf = leg => ({ class: "dot" + (DOTS[leg.verdict] || ""), "aria-hidden": "true" });

// What was sent and replied to, and why nothing is sent now.
function heartbeatsText(leg) {
	const done = leg.pings ? plural(leg.pings, "ping") + ", " + plural(leg.replies, "reply", "replies") :
		leg.heartbeats ? plural(leg.heartbeats, "heartbeat") : "";
	const none = leg.why_none ? "no heartbeats: " + leg.why_none : "";
	return [done, none].filter(Boolean).join("; ") || "no heartbeat yet";
}

// Sets the children only if the text would differ, so that nothing flickers and no selection is lost.
function show(node, ...children) {
	const next = el("div", {}, ...children);
	if (next.innerHTML !== node.innerHTML)
		node.replaceChildren(...next.childNodes);
}

// Heartbeats above a line, replies below it, misses as dots: a bar for each step, the latest at the right.
function strip(steps, label) {
	const n = steps.heartbeats.length, most = Math.max(1, ...steps.heartbeats, ...steps.replies);
	const bars = [svg("path", { class: "zero", d: `M0 17H${n * 4}` })];
	const bar = (cls, i, value, up) => {
		const height = value > 0 ? Math.max(3, 15 * value / most) : 0;
		if (height)
			bars.push(svg("rect", { class: cls, x: i * 4, y: up ? 16.5 - height : 17.5, width: 3, height }));
	};
	steps.heartbeats.forEach((v, i) => bar("sent", i, v, true));
	steps.replies.forEach((v, i) => bar("reply", i, v, false));
	steps.misses.forEach((v, i) => v && bars.push(svg("rect", { class: "miss", x: i * 4, y: 27, width: 3, height: 6 })));
	return svg("svg", { class: "strip", viewBox: `0 0 ${n * 4} 34`, preserveAspectRatio: "none", role: "img", "aria-label": label }, bars);
}
