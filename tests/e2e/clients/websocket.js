// websocket.js PORT: all sizes there and back, pings of its own, pings of the server; prints what it saw as JSON.
// websocket.js PORT wait: one message, then it waits until it is closed, and prints how.
// SCHEME in the environment: wss for TLS; NODE_EXTRA_CA_CERTS is node's own word for a CA.
const WebSocket = require('ws');
const { randomBytes } = require('crypto');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20];
const seen = { wrong: [], messages: 0, pings: 0, pongs: {}, server: null };
const ws = new WebSocket((process.env.SCHEME || 'ws') + '://127.0.0.1:' + process.argv[2] + '/', { perMessageDeflate: { threshold: 0 }, maxPayload: 1 << 26 });
const waiting = [];

const next = () => new Promise(done => waiting.push(done));
ws.on('message', (data, binary) => waiting.length ? waiting.shift()({ data, binary })
	: seen.wrong.push('unasked message of ' + data.length));
ws.on('ping', () => seen.pings++);
ws.on('pong', data => { const text = data.toString(); if (text) seen.pongs[text] = (seen.pongs[text] || 0) + 1; });
ws.on('error', e => seen.wrong.push('error ' + e.message));
ws.on('close', (code, reason) => {
	seen.code = code;
	seen.reason = reason.toString();
	console.log(JSON.stringify(seen));
});

async function exchange(data, binary, inFragments) {
	const answer = next();
	if (inFragments) {
		ws.send(data.subarray(0, data.length >> 2), { binary, fin: false });
		await sleep(60);
		ws.send(data.subarray(data.length >> 2), { binary, fin: true });
	} else
		ws.send(data, { binary });
	const got = await answer;
	seen.messages++;
	if (got.binary !== binary || !got.data.equals(data))
		seen.wrong.push('message of ' + data.length + (binary ? ' bytes' : ' characters') + ': ' + got.data.length + ' came');
}

async function converse() {
	for (const size of sizes) {
		const noise = randomBytes(size), text = Buffer.from('stent '.repeat(1 + size / 6).slice(0, size));
		await exchange(noise, true, false);
		await exchange(text, false, false);
		await exchange(noise, true, true);
		ws.ping('client ' + size);
		await sleep(60);
	}
	const told = next();
	ws.send('pings 5');
	seen.server = JSON.parse((await told).data);
	ws.send('close 4321 as agreed');
}

ws.on('open', async () => {
	seen.extensions = ws.extensions;
	if (process.argv[3] !== 'wait') return converse();
	const answer = next();
	ws.send('hello');
	await answer;
	console.log('open');
});
