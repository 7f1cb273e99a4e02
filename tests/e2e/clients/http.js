// http.js http|fetch URL: the hash of the body. http.js upload URL: sends noise in chunks, with pauses. http.js events URL.
const http = require('http');
const { createHash } = require('crypto');
const sleep = ms => new Promise(done => setTimeout(done, ms));
const [how, url] = process.argv.slice(2);
const hash = createHash('sha256');
const say = seen => process.stdout.write(JSON.stringify(seen) + '\n', () => process.exit(0));
const fail = e => say({ error: String(e.cause || e) });

function get() {
	http.get(url, response => {
		response.on('data', data => hash.update(data));
		response.on('end', () => say({ status: response.statusCode, hash: hash.digest('hex') }));
		response.on('error', fail);
	}).on('error', fail);
}

async function byFetch() {
	const response = await fetch(url);
	for await (const data of response.body) hash.update(data);
	say({ status: response.status, hash: hash.digest('hex') });
}

async function upload() {
	const request = http.request(url, { method: 'POST' }, response => {
		let text = '';
		response.on('data', data => text += data);
		response.on('end', () => say({ status: response.statusCode, sent: hash.digest('hex'), text }));
	}).on('error', fail);
	for (const size of [1, 15, 16, 17, 4096, 65536]) {
		const piece = Buffer.alloc(size, String(size));
		hash.update(piece);
		request.write(piece);
		await sleep(150);
	}
	request.end();
}

// Until the event `last`.
async function events() {
	const { EventSource } = require('eventsource');
	const source = new EventSource(url), seen = [];
	const note = e => seen.push([e.type, e.data]);
	source.onmessage = note;
	source.addEventListener('named', note);
	source.addEventListener('last', e => { note(e); source.close(); say({ events: seen }); });
	source.onerror = e => fail(e.message || 'error');
}

({ http: get, fetch: byFetch, upload, events })[how]()?.catch(fail);
