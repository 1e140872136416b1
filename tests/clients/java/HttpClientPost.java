// The JDK's HttpClient at its default, which asks for HTTP/2 with each request.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

class HttpClientPost {
    static final String BODY = """
            {"model": "%s", "temperature": 0, "messages": [{"role": "user", "content": "%s"}]}""";
    static final String JAPAN = "What is the name of the capital city of Japan?";

    public static void main(String[] arguments) throws Exception {
        var url = URI.create(System.getenv("CLIENTS_URL") + "/v1/chat/completions");
        var body = BODY.formatted(System.getenv("CLIENTS_MODEL"), JAPAN);
        var request = HttpRequest.newBuilder(url).header("Content-Type", "application/json");
        var client = HttpClient.newHttpClient();
        for (var what : new String[] {"chat", "chat on the same connection"}) {
            var post = request.POST(BodyPublishers.ofString(body)).build();
            var answer = client.send(post, BodyHandlers.ofString());
            var good = answer.statusCode() == 200 && answer.body().contains("Tokyo");
            var failure = good ? "null" : "\"status " + answer.statusCode() + "\"";
            System.out.println("{\"what\": \"" + what + "\", \"failure\": " + failure + "}");
        }
    }
}
