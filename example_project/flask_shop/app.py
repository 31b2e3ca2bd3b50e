"""The pages of the Flask shop.

Each habit is marked with the public report of a project that had it.
"""

import inspect
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter

from flask import (
    Flask,
    got_request_exception,
    make_response,
    redirect,
    render_template,
    request,
    session,
)
from flask_caching import Cache
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
)
from shop.api import CATALOGUE, PASSWORD, USERNAME, Cart, Client, SocialSignIn, has_password_hash
from shop.notebook import last_error, last_findings, remember_error, remember_request
from shop.scenarios import SCENARIOS
from werkzeug.security import check_password_hash, generate_password_hash

PAGES = Path(__file__).resolve().parent.parent / "shop" / "templates"

app = Flask(__name__, template_folder=str(PAGES))
app.config.from_object("flask_shop.config")
app.jinja_env.globals.update(
    shop="Flask",
    backend=app.config["SHOP_BACKEND"],
    scenarios=SCENARIOS,
    has_password_hash=has_password_hash,
)

if app.config["SHOP_BACKEND"] == "contextcache":
    from contextcache_flask import ContextCache

    ContextCache(app)
else:
    from flask_session import Session

    Session(app)

cache = Cache(app)
login_manager = LoginManager(app)
login_manager.login_view = "login"

printing = count(1)
sending_times = []


@dataclass
class Customer(UserMixin):
    id: str
    username: str
    password: str


customers = {"1": Customer("1", USERNAME, generate_password_hash(PASSWORD))}
login_manager.user_loader(customers.get)


@app.get("/")
def index():
    return render_template("index.html")


@app.route("/login/", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        for customer in customers.values():
            if customer.username == request.form["username"] and check_password_hash(
                customer.password, request.form["password"]
            ):
                login_user(customer)
                return redirect("/")
    return render_template("login.html")


@app.post("/logout/")
def logout():
    logout_user()
    return redirect("/")


@app.get("/products/")
def products():
    return render_template("products.html", products=CATALOGUE.values())


@app.route("/cart/", methods=["GET", "POST"])
def cart():
    if request.method == "POST":
        cart = session.get("cart") or Cart()
        # pallets-eco/flask-session#180: an API client in the session, here in each line of a cart
        cart.add(request.form.get("sku", "lamp"), Client(request.remote_addr))
        session["cart"] = cart
        return redirect("/cart/")
    return render_template("cart.html", cart=session.get("cart"))


@app.route("/profile/", methods=["GET", "POST"])
@login_required
def profile():
    key = f"profile:{current_user.id}"
    if request.method == "POST":
        # maxcountryman/flask-login#9: current_user is a proxy, not the user
        cache.set(key, {"user": current_user, "orders": 3})
        return redirect("/profile/")
    return render_template("profile.html", profile=cache.get(key))


@app.route("/social/", methods=["GET", "POST"])
def social():
    if request.method == "POST":
        # flashingpumpkin/django-socialregistration#73: the client in the session has the request
        client = SocialSignIn("example.org", request._get_current_object())
        session["social_client"] = client
        return redirect("/social/")
    return render_template("social.html", client=session.get("social_client"))


@app.route("/wishlist/", methods=["GET", "POST"])
@login_required
def wishlist():
    if request.method == "POST":
        # omab/python-social-auth#257: the user may be a proxy, and the storage takes it as it is
        session["owner"] = current_user
        return redirect("/wishlist/")
    return render_template("wishlist.html", owner=session.get("owner"))


@app.get("/brochure/")
@cache.cached(timeout=60)
def brochure():
    started = perf_counter()
    page = render_template("brochure.html", products=CATALOGUE.values(), printing=next(printing))
    response = make_response(page)
    # pallets-eco/flask-caching#366: cached() meets a lambda that only this one response has
    response.call_on_close(lambda: sending_times.append(perf_counter() - started))
    return response


@app.route("/offers/", methods=["GET", "POST"])
def offers():
    if request.method == "POST":
        affordable = (product for product in CATALOGUE.values() if product.price < 40)
        # bogdal/sentry-youtrack#16: a generator among the cached data
        # chr1st1ank/narrow-down#12: and a lambda
        cache.set(
            "offers",
            {
                "heading": "This week",
                "products": affordable,
                "price": lambda product: f"{product.price * 9 / 10:.2f}",
            },
        )
        return redirect("/offers/")
    return render_template("offers.html", offers=cache.get("offers"))


@app.get("/happened/<slug>/")
def happened(slug):
    return render_template(
        "happened.html",
        scenario=SCENARIOS[slug],
        error=last_error(f"/{slug}/"),
        findings=last_findings(f"/{slug}/"),
        code=inspect.getsource(inspect.unwrap(app.view_functions[slug])),
    )


@app.errorhandler(500)
def failed(error):
    return render_template("failed.html", error=error.original_exception), 500


app.before_request(remember_request)


@got_request_exception.connect_via(app)
def note_error(sender, exception, **kwargs):
    remember_error(request.path, exception)
